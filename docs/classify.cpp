// Classifies a recording with an ONNX file of neuromoco that takes events (`neuromoco export --input events`).
//
//     classify MODEL.onnx RECORDING [WIDTHxHEIGHT]
//
// RECORDING is an ATIS .bin file (as in N-MNIST), or a .csv with the columns t,x,y,p as `neuromoco convert` writes it. With a
// camera's own library, fill the vector of events from its packets instead. Needs C++17 and ONNX Runtime.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Event {
  int64_t t;  // microseconds, from any origin
  int32_t x, y;
  int32_t p;  // 1 brighter, 0 darker
};
using Events = std::vector<Event>;

Events read_atis(std::istream& file) {
  const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() % 5) throw std::runtime_error("is cut: an event has 5 bytes");
  Events events;
  int64_t elapsed = 0;
  for (auto at = bytes.begin(); at != bytes.end(); at += 5) {
    // Row 240 is no event: it says that the 23-bit clock has advanced by 8192 us once more.
    if (at[1] == 240) { elapsed += 8192; continue; }
    const int64_t time = (at[2] & 0x7f) << 16 | at[3] << 8 | at[4];
    events.push_back({time + elapsed, at[0], at[1], at[2] >> 7});
  }
  return events;
}

Events read_csv(std::istream& file) {
  std::string line;
  if (!std::getline(file, line) || line.rfind("t,x,y,p", 0) != 0) throw std::runtime_error("needs the columns t,x,y,p");
  Events events;
  for (Event event; std::getline(file, line); events.push_back(event)) {
    long long t;
    if (std::sscanf(line.c_str(), "%lld,%d,%d,%d", &t, &event.x, &event.y, &event.p) != 4) {
      throw std::runtime_error("has a damaged line: " + line.substr(0, 40));
    }
    event.t = t;
  }
  return events;
}

struct Answer {
  std::string label;
  std::vector<float> logits;  // mean over time, classes in the order of the model
};

// Bins the events, runs the network, names the class: all of it is in the file. An event outside the sensor is an error.
Answer classify(Ort::Session& session, Events events, int64_t width, int64_t height) {
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.t < b.t; });
  std::vector<int64_t> t;
  std::vector<int32_t> x, y, p;
  for (const Event& event : events) {
    t.push_back(event.t), x.push_back(event.x), y.push_back(event.y), p.push_back(event.p);
  }
  std::array<int64_t, 2> sensor{height, width};
  const int64_t count = static_cast<int64_t>(events.size()), sides = 2;
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto tensor = [&](auto& column, const int64_t* shape) {
    return Ort::Value::CreateTensor(memory, column.data(), column.size(), shape, 1);
  };
  const std::array<const char*, 5> inputs{"t", "x", "y", "p", "sensor"};
  const std::array<const char*, 2> outputs{"label", "logits"};
  const std::array<Ort::Value, 5> values{tensor(t, &count), tensor(x, &count), tensor(y, &count),
                                         tensor(p, &count), tensor(sensor, &sides)};
  auto found = session.Run(Ort::RunOptions{}, inputs.data(), values.data(), 5, outputs.data(), 2);
  std::string label(found[0].GetStringTensorElementLength(0), '\0');
  found[0].GetStringTensorElement(label.size(), 0, label.data());
  const float* logits = found[1].GetTensorData<float>();
  return {label, {logits, logits + found[1].GetTensorTypeAndShapeInfo().GetElementCount()}};
}

int main(int count, char** words) try {
  if (count < 3) throw std::runtime_error("usage: classify MODEL.onnx RECORDING [WIDTHxHEIGHT]");
  const std::string recording = words[2];
  int width = 34, height = 34;  // N-MNIST
  if (count > 3 && std::sscanf(words[3], "%dx%d", &width, &height) != 2) throw std::runtime_error("give WIDTHxHEIGHT");

  std::ifstream file(recording, std::ios::binary);
  const bool is_csv = recording.size() > 4 && recording.compare(recording.size() - 4, 4, ".csv") == 0;
  const Events events = is_csv ? read_csv(file) : read_atis(file);
  if (events.empty()) throw std::runtime_error(recording + ": has no events, or cannot be read");

  Ort::Env environment(ORT_LOGGING_LEVEL_FATAL);
  Ort::Session session(environment, words[1], Ort::SessionOptions{});
  const Answer answer = classify(session, events, width, height);
  std::printf("%s\n", answer.label.c_str());
  for (size_t i = 0; i < answer.logits.size(); ++i) std::printf("%s%.3f", i ? " " : "", answer.logits[i]);
  std::printf("\n");
} catch (const std::exception& error) {
  std::cerr << "classify: " << error.what() << "\n";
  return 1;
}
