// Checkpoints: what a file may claim and what is refused, and that the weights lie where the model
// looks for them.
#include "kernels/models/checkpoint.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kernels/core/bf16.h"
#include "kernels/core/error.h"
#include "kernels/core/fp16.h"
#include "kernels/models/safetensors.h"
#include "kernels/models/weights.h"
#include "kernels/models/work.h"

namespace based::models {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// A folder that lives as long as a test.
class checkpoints : public testing::Test {
 protected:
  checkpoints() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~checkpoints() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() /
      fmt::format("based-{}-{}", ::getpid(),
                  testing::UnitTest::GetInstance()->current_test_info()->name());
};

std::string file_of(const std::string& header, const std::string& data) {
  std::string bytes(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, sizeof size);
  return bytes + header + data;
}

template <class T>
std::string bytes_of_values(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(checkpoints, read_every_type) {
  // A header of 3 modulo 4 bytes, so that no element is aligned.
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},)"
                       R"("c":{"dtype":"F16","shape":[2,1],"data_offsets":[12,16]},)"
                       R"("none":{"dtype":"F16","shape":[0,3],"data_offsets":[16,16]}})";
  while (header.size() % 4 != 3) header += ' ';
  const std::string data = bytes_of_values<float>({1.5f, -3e-30f}) +
                           bytes_of_values<bf16>({to_bf16(2), to_bf16(-0.5f)}) +
                           bytes_of_values<fp16>({to_fp16(0.25f), to_fp16(-8)});
  const safetensors_file file(write("m.safetensors", file_of(header, data)));
  ASSERT_EQ(file.tensors().size(), 4u);
  const auto values = [&](const char* name) {
    std::vector<float> found(2);
    read_elements(file.tensors().find(name)->second, std::span(found));
    return found;
  };
  EXPECT_EQ(values("a"), (std::vector<float>{1.5f, -3e-30f}));
  EXPECT_EQ(values("b"), (std::vector<float>{2, -0.5f}));
  EXPECT_EQ(values("c"), (std::vector<float>{0.25f, -8}));
  EXPECT_EQ(to_string(file.tensors().find("c")->second), "F16 [2, 1]");
  std::vector<bf16> rounded(2);
  read_elements(file.tensors().find("a")->second, std::span(rounded));
  EXPECT_EQ(to_float(rounded[0]), 1.5f);
  EXPECT_THROW(read_elements(file.tensors().find("none")->second, std::span(rounded)),
               invalid_argument);
}

TEST_F(checkpoints, refuse_what_the_header_does_not_say_truly) {
  const auto entry = [](const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return fmt::format(R"({{"dtype":{},"shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  const std::string good = entry(R"("F32")", "[2]", "[0,8]"), data(8, '\0');
  const auto of = [](const std::string& entries) { return "{" + entries + "}"; };
  struct bad_file {
    std::string header, data, says;
  };
  const std::vector<bad_file> cases = {
      {of(R"("a":)" + good), data.substr(1), "truncated"},
      {of(R"("a":)" + good), data + "x", "longer than its header says"},
      {of(R"("a":)" + good + R"(,"a":)" + good), data, "'a' twice"},
      {of(R"("a":)" + good + R"(,"b":)" + entry(R"("F32")", "[1]", "[4,8]")), data, "begins at"},
      {of(R"("a":)" + entry(R"("F32")", "[1]", "[4,8]")), data, "begins at byte 4"},
      {of(R"("a":)" + entry(R"("I64")", "[1]", "[0,8]")), data, "I64"},
      {of(R"("a":)" + entry("7", "[1]", "[0,8]")), data, "dtype is 7"},
      {of(R"("a":)" + entry(R"("F32")", "[3]", "[0,8]")), data, "needs 12 bytes"},
      {of(R"("a":)" + entry(R"("F32")", "[-2]", "[0,8]")), data, "-2"},
      {of(R"("a":)" + entry(R"("F32")", "[1.5]", "[0,8]")), data, "1.5"},
      {of(R"("a":)" + entry(R"("F32")", "[4294967296,4294967296,4]", "[0,8]")), data, "too large"},
      {of(R"("a":)" + entry(R"("F32")", "[2]", "[8,0]")), data, "8 to 0"},
      {of(R"("a":)" + entry(R"("F32")", "[2]", "[0]")), data, "no two numbers"},
      {of(R"("a":)" + entry(R"("F32")", "2", "[0,8]")), data, "no list"},
      {of(R"("a":{"dtype":"F32","shape":[2]})"), data, "no data_offsets"},
      {of(R"("a":5)"), data, "no dtype"},
      {"[1]", data, "no JSON object"},
      {R"({"a":)", data, "no JSON"},
      {"{\"\xff\":1}", data, "no JSON"},
  };
  for (const bad_file& each : cases) {
    const auto path = write("m.safetensors", file_of(each.header, each.data));
    const std::string message = message_of([&] { safetensors_file{path}; });
    EXPECT_THAT(message, AllOf(HasSubstr("m.safetensors: "), HasSubstr(each.says))) << each.header;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_THAT(message_of([&] { safetensors_file{write("m.safetensors", "short")}; }),
              HasSubstr("5 bytes"));
  std::string lying = file_of("{}", "");
  lying[6] = 1;  // a header of 2^48 bytes
  EXPECT_THAT(message_of([&] { safetensors_file{write("m.safetensors", lying)}; }),
              HasSubstr("truncated, or no safetensors file"));
  EXPECT_THAT(message_of([&] { safetensors_file{folder()}; }), HasSubstr("no regular file"));
  EXPECT_THAT(message_of([&] { safetensors_file{folder() / "none"}; }), HasSubstr("opened"));
}

/// A checkpoint of a model whose element i of tensor t is a number that tells both.
class model_checkpoints : public checkpoints {
 protected:
  static float value(std::size_t tensor, std::int64_t index) {
    return static_cast<float>(tensor % 7) / 4 + static_cast<float>(index % 61) / 64;
  }
  static std::vector<std::int64_t> stored_shape(const weight_tensor& weight) {
    if (weight.form != weight_form::taps_first) return weight.shape;
    return {weight.shape[1], 1, weight.shape[0]};
  }

  void write_model(const model_configuration& model,
                   const std::function<void(json& header, json& config)>& change = {}) const {
    json header, config = {{"name", model.name},
                           {"width", model.width},
                           {"vocabulary", model.vocabulary},
                           {"mlp_inner", model.mlp_inner},
                           {"heads", model.heads},
                           {"window", model.window},
                           {"rotated", model.rotated},
                           {"head_norm", model.head_norm},
                           {"inner", model.inner},
                           {"taps", model.taps},
                           {"d_state", model.d_state},
                           {"dt_rank", model.dt_rank}};
    constexpr const char* names[] = {
        "base_conv", "linear_attention", "window_attention", "attention", "mamba", "mamba2"};
    for (const mixer_kind mixer : model.mixers) {
      config["mixers"].push_back(names[static_cast<int>(mixer)]);
    }
    std::string data;
    const auto tensors = weights_of(model).tensors();
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      std::vector<float> values;
      for (std::int64_t i = 0; i < tensors[t].count(); ++i) values.push_back(value(t, i));
      const std::size_t begin = data.size();
      data += bytes_of_values(values);
      header[tensors[t].key] = {{"dtype", "F32"},
                                {"shape", stored_shape(tensors[t])},
                                {"data_offsets", {begin, data.size()}}};
    }
    if (change) change(header, config);
    write("model.safetensors", file_of(header.dump(), data));
    write("config.json", config.dump());
  }
};

TEST_F(model_checkpoints, lie_where_the_model_looks_for_them) {
  for (const model_configuration& model : known_models()) {
    if (!model.name.starts_with("tiny-")) continue;
    write_model(model);
    const checkpoint read(folder());
    EXPECT_EQ(read.model(), model) << model.name;
    const weight_table& table = weights_of(model);
    std::vector<float> matrices(static_cast<std::size_t>(table.matrix_elements()), -7);
    std::vector<float> others(static_cast<std::size_t>(table.other_elements()), -7);
    read.read(std::span(matrices), std::span(others));
    for (std::size_t t = 0; t < table.tensors().size(); ++t) {
      const weight_tensor& weight = table.tensors()[t];
      const std::vector<float>& buffer = weight.is_matrix() ? matrices : others;
      const std::int64_t rows = weight.shape[0], columns = weight.count() / rows;
      for (std::int64_t i = 0; i < weight.count(); ++i) {
        float wanted = value(t, i);
        if (weight.form == weight_form::negative_exponential) wanted = -std::exp(wanted);
        if (weight.form == weight_form::taps_first) {
          wanted = value(t, i % columns * rows + i / columns);
        }
        ASSERT_EQ(buffer[static_cast<std::size_t>(weight.offset + i)], wanted)
            << model.name << " " << weight.key << " " << i;
      }
    }
    std::vector<bf16> rounded(matrices.size());
    read.read(std::span(rounded), std::span(others));
    EXPECT_EQ(to_float(rounded[5]), to_float(to_bf16(matrices[5])));
    EXPECT_THROW(read.read(std::span(matrices).first(1), std::span(others)), invalid_argument);
  }
}

TEST_F(model_checkpoints, refuse_weights_that_are_not_of_the_configuration) {
  const model_configuration& model = model_named("tiny-based");
  const auto says = [&](const std::function<void(json&, json&)>& change) {
    write_model(model, change);
    const std::string message = message_of([&] { checkpoint{folder()}; });
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  };
  const std::string norm = "transformer.layers.0.norm1.weight";
  EXPECT_THAT(says([&](json& header, json&) {
                header["transformer.layers.0.other"] = header[norm];
                header.erase(norm);
              }),
              AllOf(HasSubstr("model.safetensors: has no tensor"), HasSubstr(norm)));
  EXPECT_THAT(says([&](json& header, json&) {
                header[norm]["shape"] = {2, model.width / 2};
              }),
              HasSubstr(fmt::format("is F32 [2, {}], config.json asks for [{}]", model.width / 2,
                                    model.width)));
  EXPECT_THAT(says([](json&, json& config) { config["mixers"].erase(2); }),
              HasSubstr("transformer.layers.2."));
  EXPECT_THAT(says([](json&, json& config) { config["width"] = 8; }), HasSubstr("width 8"));
  EXPECT_THAT(says([](json&, json& config) { config["width"] = "wide"; }),
              HasSubstr(R"(config.json: its width is "wide")"));
  EXPECT_THAT(says([](json&, json& config) { config["heads"] = -1; }), HasSubstr("heads is -1"));
  EXPECT_THAT(says([](json&, json& config) { config["mixers"][0] = "hyena"; }),
              AllOf(HasSubstr(R"(mixer "hyena")"), HasSubstr("base_conv, linear_attention")));
  EXPECT_THAT(says([](json&, json& config) { config.erase("mixers"); }),
              HasSubstr("no list 'mixers'"));
  write("config.json", "{");
  EXPECT_THAT(message_of([&] { checkpoint{folder()}; }), HasSubstr("is no JSON"));
  std::filesystem::remove(folder() / "config.json");
  EXPECT_THAT(message_of([&] { checkpoint{folder()}; }),
              HasSubstr("config.json: cannot be read; a checkpoint is a folder"));
}

TEST_F(model_checkpoints, are_models_by_a_name_of_their_own) {
  const model_configuration& model = model_named("tiny-mamba");
  write_model(model);
  const auto name = open_checkpoint(folder().string());
  ASSERT_EQ(name, "trained-tiny-mamba");
  EXPECT_EQ(open_checkpoint((folder() / ".").string()), name);
  EXPECT_EQ(open_checkpoint(*name), name);
  const model_configuration& trained = known_model(*name);
  EXPECT_EQ(trained, model);
  ASSERT_NE(checkpoint_of(trained), nullptr);
  EXPECT_EQ(checkpoint_of(model), nullptr);
  EXPECT_EQ(model_axis_name(trained), *name);
  EXPECT_EQ(model_axis_name(model), "tiny-mamba");
  const axis_info axis = model_axis_info();
  EXPECT_EQ(based::to_string(axis.domain.parse("model", folder().string())), *name);
  EXPECT_THAT(message_of([&] { axis.domain.parse("model", "/none"); }),
              AllOf(HasSubstr("--model: '/none' is not"), HasSubstr("tiny-mamba")));
  EXPECT_EQ(open_checkpoint("/none"), std::nullopt);

  const std::filesystem::path other = folder() / "other";
  std::filesystem::create_directories(other);
  for (const char* file : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(folder() / file, other / file);
  }
  EXPECT_THAT(message_of([&] { open_checkpoint(other.string()); }),
              HasSubstr("both hold a model named tiny-mamba"));
}

}  // namespace
}  // namespace based::models
