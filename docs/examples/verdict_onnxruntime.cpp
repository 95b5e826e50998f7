// A photograph's verdict by an export that takes photographs (format=onnx), in C++ with ONNX Runtime.
//
//     g++ -std=c++17 verdict_onnxruntime.cpp -I ONNXRUNTIME/include -L ONNXRUNTIME/lib -lonnxruntime -o verdict
//     ./verdict model.onnx photograph.ppm
//
// The photograph is a binary PPM, so that no decoder is needed here. Yours gives the same: 8 bits, R G B, upright.
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

struct Photograph {
    int64_t width = 0, height = 0;
    std::vector<uint8_t> pixels;  // height x width x 3
};

Photograph read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    Photograph photograph;
    int most = 0;
    if (!(file >> kind >> photograph.width >> photograph.height >> most) || kind != "P6" || most != 255)
        throw std::runtime_error(path + " is no binary PPM of 8 bits");
    file.get();
    photograph.pixels.resize(photograph.width * photograph.height * 3);
    if (!file.read(reinterpret_cast<char*>(photograph.pixels.data()), photograph.pixels.size()))
        throw std::runtime_error(path + " is cut off");
    return photograph;
}

int main(int count, char** arguments) {
    if (count != 3) return std::cerr << "usage: verdict model.onnx photograph.ppm\n", 2;
    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR);
    Ort::SessionOptions options;
    Ort::Session session(environment, arguments[1], options);
    Photograph photograph = read_ppm(arguments[2]);
    // With export.layout=nchw: {1, 3, height, width}, one channel after the other.
    const std::vector<int64_t> shape{1, photograph.height, photograph.width, 3};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto images = Ort::Value::CreateTensor<uint8_t>(
        memory, photograph.pixels.data(), photograph.pixels.size(), shape.data(), shape.size());
    const char* inputs[] = {"images"};
    const char* outputs[] = {"verdict", "score", "distance", "class_index"};
    auto values = session.Run(Ort::RunOptions{}, inputs, &images, 1, outputs, 4);
    const std::vector<std::string> verdicts{"refer", "accept", "reject"};
    // Anything else than these three codes is refused by at(), not read as a verdict.
    std::cout << verdicts.at(values[0].GetTensorData<int64_t>()[0]) << " score " << values[1].GetTensorData<float>()[0]
              << " distance " << values[2].GetTensorData<float>()[0] << " class "
              << values[3].GetTensorData<int64_t>()[0] << "\n";
}
