// A webcam before the simulated camera: each frame becomes grey values of the sensor's size.

/** Frames of a webcam; `seen(grey, time)` is called with each, grey values 0 to 1 [height * width] and microseconds. */
export class Webcam {
  #stream = null;
  #video = null;

  constructor(width, height, seen) {
    Object.assign(this, { width, height, seen });
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
  }

  /** Asks for the webcam and begins; an error of one line if there is none, or it is not allowed. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("this browser gives no webcam to a page from here: open the page from a disk, or over https");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 320 }, height: { ideal: 240 } } });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      throw new Error(denied ? "the webcam was not allowed: allow it for this page, and start it again"
        : `no webcam was found, or another program uses it (${error.name})`);
    }
    this.#video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: this.#stream });
    await this.#video.play();
    this.#next();
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#video = null;
  }

  #next() {
    const video = this.#video;
    if (!video) return;
    const again = (now) => {
      if (!this.#video) return;
      this.seen(this.#grey(), Math.round(1000 * now));
      this.#next();
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(again);
    else requestAnimationFrame(again);
  }

  /** The middle of the picture, in the shape of the sensor. */
  #grey() {
    const { width, height, context } = this, { videoWidth, videoHeight } = this.#video;
    const scale = Math.min(videoWidth / width, videoHeight / height), [w, h] = [width * scale, height * scale];
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#video, (videoWidth - w) / 2, (videoHeight - h) / 2, w, h, 0, 0, width, height);
    const { data } = context.getImageData(0, 0, width, height);
    return Float64Array.from({ length: width * height }, (_, i) =>
      (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255);
  }
}
