// Files of the safetensors format: a header that names tensors, and their bytes behind it.
//
//   u64 size of the header, little endian | header, JSON | bytes of all tensors, without gaps
//
// A file is not trusted: whatever its header claims is checked against the file before any tensor
// can be asked for. Sources: the format's description by its authors (Hugging Face, "safetensors").
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace based::models {

enum class stored_type { f32, bf16, f16 };

/// A tensor of a file. Its bytes are the file's, mapped into memory for as long as the file lives;
/// they are not aligned.
struct stored_tensor {
  stored_type type;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  std::int64_t count() const;
};

/// "F32 [3072, 1024]", as messages name a tensor.
std::string to_string(const stored_tensor& tensor);
std::string to_string(std::span<const std::int64_t> shape);

class safetensors_file {
 public:
  /// Throws invalid_argument, with one line that names the file and what is wrong, where it cannot
  /// be read, is truncated or longer than it says, where its header is no JSON of this format,
  /// names a tensor twice or of a type other than F32, BF16 and F16, or where tensors overlap,
  /// leave gaps or have other bytes than their shapes need.
  explicit safetensors_file(const std::filesystem::path& path);

  const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::shared_ptr<const std::byte> bytes_;  // the mapping, which ends with its last owner
  std::map<std::string, stored_tensor, std::less<>> tensors_;
};

/// The elements of a tensor as T (float or bf16), rounded to nearest; as many as `values` has,
/// which must be the tensor's count.
template <class T>
void read_elements(const stored_tensor& tensor, std::span<T> values);

}  // namespace based::models
