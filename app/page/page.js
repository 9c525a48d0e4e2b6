// Plays the animation and copies the command. `element` and `watch` are given by gradio; the server is never asked.
const LIGHT = { paper: [255, 255, 255], on: [230, 97, 0], off: [0, 89, 179] };
const DARK = { paper: [16, 21, 29], on: [255, 128, 38], off: [64, 150, 255] };
const FRAME_MS = 60;
const isDark = () => document.body.classList.contains("dark") || !!document.querySelector(".gradio-container.dark");
let player = null;

function begin() {
  const root = element.querySelector(".nm-player");
  if (player) player.end(); // gradio keeps the elements and changes what they hold
  player = root ? open(root) : null;
}

function open(root) {
  const [canvas, sheet, slider] = ["canvas", "img", "input"].map((tag) => root.querySelector(tag));
  const [button, output] = ["button", "output"].map((tag) => root.querySelector(tag));
  const [width, height, columns] = ["width", "height", "columns"].map((name) => Number(root.dataset[name]));
  const counts = JSON.parse(root.dataset.counts);
  const playhead = element.querySelector(".nm-playhead");
  const context = canvas.getContext("2d");
  const listening = new AbortController(), { signal } = listening;
  let pixels = null, timer = null;

  function read() {
    const whole = document.createElement("canvas");
    [whole.width, whole.height] = [sheet.naturalWidth, sheet.naturalHeight];
    const inner = whole.getContext("2d", { willReadFrequently: true });
    inner.drawImage(sheet, 0, 0);
    pixels = inner;
    draw();
  }

  function draw() {
    const frame = Number(slider.value), { paper, on, off } = isDark() ? DARK : LIGHT;
    if (pixels) {
      const source = pixels.getImageData((frame % columns) * width, Math.floor(frame / columns) * height, width, height);
      for (let i = 0; i < source.data.length; i += 4) {
        const [a, b] = [source.data[i] / 255, source.data[i + 1] / 255];
        const most = Math.max(a, b), share = a + b ? a / (a + b) : 0;
        for (let c = 0; c < 3; c++) {
          source.data[i + c] = paper[c] + most * (share * on[c] + (1 - share) * off[c] - paper[c]);
        }
      }
      context.putImageData(source, 0, 0);
    }
    const from = Number(root.dataset.begin), length = Number(root.dataset.length) / counts.length;
    const [first, last] = [from + frame * length, from + (frame + 1) * length].map((us) => (us / 1000).toFixed(1));
    output.textContent = `${first} to ${last} ms · ${counts[frame].toLocaleString("en")} events`;
    slider.setAttribute("aria-valuetext", output.textContent);
    if (playhead) {
      const [left, right] = [Number(playhead.dataset.from), Number(playhead.dataset.to)];
      const x = left + ((frame + 0.5) / counts.length) * (right - left);
      playhead.setAttribute("x1", x);
      playhead.setAttribute("x2", x);
    }
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    root.classList.remove("nm-playing");
    button.setAttribute("aria-label", "Play");
  }

  function play() {
    if (timer) return stop();
    timer = setInterval(() => {
      if (!root.isConnected) return stop();
      slider.value = (Number(slider.value) + 1) % counts.length;
      draw();
    }, FRAME_MS);
    root.classList.add("nm-playing");
    button.setAttribute("aria-label", "Pause");
  }

  slider.addEventListener("input", () => { stop(); draw(); }, { signal });
  button.addEventListener("click", play, { signal });
  slider.value = slider.getAttribute("value");
  draw();
  sheet.decode().then(() => signal.aborted || read(), () => {});
  return { draw, end: () => { stop(); listening.abort(); } };
}

// Too large a file is not sent at all.
function check(event) {
  const files = (event.dataTransfer || event.target).files;
  if (!files || !files.length || !event.target.closest("#nm-drop") || files[0].size <= props.largest) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const mb = (bytes) => (bytes / 2 ** 20).toFixed(1);
  const words = [
    ["h2", "This file is too large."],
    ["p", `It has ${mb(files[0].size)} MB; up to ${mb(props.largest)} MB are taken here. neuromoco predict has no limit.`],
    ["p", files[0].name],
  ];
  const box = document.createElement("div");
  box.className = "nm-empty nm-error";
  box.setAttribute("role", "alert");
  box.append(...words.map(([tag, text]) => Object.assign(document.createElement(tag), { textContent: text })));
  props.value = box.outerHTML;
  if (event.target.value) event.target.value = "";
}
document.addEventListener("change", check, true);
document.addEventListener("drop", check, true);

element.addEventListener("click", (event) => {
  const button = event.target.closest(".nm-copy");
  if (!button) return;
  const text = element.querySelector(".nm-command code").textContent;
  const done = (word) => { button.textContent = word; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
  navigator.clipboard.writeText(text).then(() => done("Copied"), () => {
    getSelection().selectAllChildren(element.querySelector(".nm-command code"));
    done("Press Ctrl-C");
  });
});
new MutationObserver(() => player && player.draw()).observe(document.body, { attributeFilter: ["class"] });
watch("value", begin);
begin();
