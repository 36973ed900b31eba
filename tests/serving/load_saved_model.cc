// Loads a SavedModel with the function that TF Serving's loader calls, and runs one of its signatures.
//
//   load_saved_model MODEL SIGNATURE INPUT=DTYPE:DIM,DIM,...:FILE ... OUTPUTS_FOLDER
//
// Files hold little-endian values without a header; each output goes to OUTPUTS_FOLDER/NAME, float32.

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session_options.h"

namespace {

[[noreturn]] void Fail(const std::string& message) {
  std::cerr << message << std::endl;
  std::exit(1);
}

tensorflow::Tensor ReadTensor(const std::string& dtype, const std::string& dims, const std::string& path) {
  tensorflow::TensorShape shape;
  std::istringstream sizes(dims);
  for (std::string size; std::getline(sizes, size, ',');) shape.AddDim(std::stoll(size));
  tensorflow::Tensor tensor(dtype == "int32" ? tensorflow::DT_INT32 : tensorflow::DT_FLOAT, shape);
  std::ifstream file(path, std::ios::binary);
  const auto bytes = tensor.NumElements() * 4;
  file.read(static_cast<char*>(tensor.data()), bytes);
  if (file.gcount() != bytes) Fail(path + ": is too short");
  return tensor;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) Fail("usage: load_saved_model MODEL SIGNATURE INPUT=DTYPE:DIMS:FILE ... OUTPUTS_FOLDER");
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(), argv[1],
                                           {"serve"}, &bundle);
  if (!status.ok()) Fail(status.ToString());
  const auto found = bundle.GetSignatures().find(argv[2]);
  if (found == bundle.GetSignatures().end()) Fail(std::string("no signature ") + argv[2]);
  std::vector<std::pair<std::string, tensorflow::Tensor>> inputs;
  for (int i = 3; i < argc - 1; ++i) {
    const std::string argument = argv[i];
    const auto equals = argument.find('='), first = argument.find(':'), second = argument.find(':', first + 1);
    const auto& info = found->second.inputs().at(argument.substr(0, equals));
    inputs.emplace_back(info.name(), ReadTensor(argument.substr(equals + 1, first - equals - 1),
                                                argument.substr(first + 1, second - first - 1),
                                                argument.substr(second + 1)));
  }
  std::vector<std::string> names, tensors;
  for (const auto& [name, info] : found->second.outputs()) {
    names.push_back(name);
    tensors.push_back(info.name());
  }
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run(inputs, tensors, {}, &outputs);
  if (!status.ok()) Fail(status.ToString());
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::ofstream file(std::string(argv[argc - 1]) + "/" + names[i], std::ios::binary);
    file.write(static_cast<const char*>(outputs[i].data()), outputs[i].NumElements() * 4);
  }
  return 0;
}
