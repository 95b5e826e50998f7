// A photograph's verdict by an export that takes photographs (format=onnx), in C++ with OpenVINO.
//
//     g++ -std=c++17 verdict.cpp -I OPENVINO/include -L OPENVINO/libs -lopenvino -o verdict
//     ./verdict model.onnx photograph.ppm
//
// The photograph is a binary PPM, so that no decoder is needed here. Yours gives the same: 8 bits, R G B, upright.
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Photograph {
    size_t width = 0, height = 0;
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
    ov::Core core;
    // Left to itself OpenVINO may compute in bfloat16.
    auto network = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = network.create_infer_request();
    Photograph photograph = read_ppm(arguments[2]);
    ov::Tensor images(ov::element::u8, {1, photograph.height, photograph.width, 3}, photograph.pixels.data());
    request.set_tensor("images", images);
    request.infer();
    const char* verdicts[] = {"refer", "accept", "reject"};
    // Anything else than these three codes is refused by at(), not read as a verdict.
    auto code = request.get_tensor("verdict").data<int64_t>()[0];
    std::cout << std::vector<std::string>(verdicts, verdicts + 3).at(code) << " score "
              << request.get_tensor("score").data<float>()[0] << " distance "
              << request.get_tensor("distance").data<float>()[0] << " class "
              << request.get_tensor("class_index").data<int64_t>()[0] << "\n";
}
