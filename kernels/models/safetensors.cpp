#include "kernels/models/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "kernels/core/element_type.h"
#include "kernels/core/error.h"

namespace based::models {
namespace {

using nlohmann::json;

constexpr std::uint64_t length_bytes = 8;
constexpr std::uint64_t longest_header = 100'000'000;  // the format's own limit
constexpr std::string_view metadata = "__metadata__";

static_assert(std::endian::native == std::endian::little, "the files are little endian");

struct named_type {
  std::string_view name;
  stored_type type;
  std::uint64_t bytes;
};
constexpr named_type types[] = {
    {"F32", stored_type::f32, 4}, {"BF16", stored_type::bf16, 2}, {"F16", stored_type::f16, 2}};

/// Throws with the file's name before the message.
class complaint {
 public:
  explicit complaint(const std::filesystem::path& path) : path_(path.string()) {}

  template <class... Arguments>
  [[noreturn]] void operator()(fmt::format_string<Arguments...> format,
                               Arguments&&... arguments) const {
    throw invalid_argument(path_ + ": " +
                           fmt::format(format, std::forward<Arguments>(arguments)...));
  }

 private:
  std::string path_;
};

struct mapping {
  std::shared_ptr<const std::byte> bytes;
  std::uint64_t size;
};

mapping map_file(const std::filesystem::path& path, const complaint& complain) {
  const auto reason = [] { return std::generic_category().message(errno); };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) complain("cannot be opened ({})", reason());
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    complain("is no regular file");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size < length_bytes) {
    ::close(descriptor);
    complain("has {} bytes; a safetensors file has at least {}", size, length_bytes);
  }
  void* const begin = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const std::string why = reason();
  ::close(descriptor);
  if (begin == MAP_FAILED) complain("cannot be mapped into memory ({})", why);
  const auto unmap = [size](const std::byte* bytes) {
    ::munmap(const_cast<std::byte*>(bytes), size);
  };
  return {{static_cast<const std::byte*>(begin), unmap}, size};
}

/// The header as JSON. A name that stands in it twice is refused: which tensor would it be?
json parse_header(std::string_view text, const complaint& complain) {
  constexpr int entries = 1;  // the depth of the tensors' names
  std::set<std::string> names;
  std::string twice;
  const auto see = [&](int depth, json::parse_event_t event, const json& parsed) {
    if (event == json::parse_event_t::key && depth == entries) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names.insert(name).second) twice = name;
    }
    return true;
  };
  json header;
  try {
    header = json::parse(text, see);
  } catch (const json::exception& error) {
    complain("its header is no JSON ({})", error.what());
  }
  if (!header.is_object()) complain("its header is no JSON object");
  if (!twice.empty()) complain("its header names the tensor '{}' twice", twice);
  return header;
}

std::uint64_t unsigned_of(const json& value, const std::string& name, std::string_view what,
                          const complaint& complain) {
  if (!value.is_number_unsigned()) {
    complain("tensor '{}': its {} has {}, which is no whole number of at least 0", name, what,
             value.dump());
  }
  return value.get<std::uint64_t>();
}

struct placed_tensor {
  std::string name;
  stored_tensor tensor;
  std::uint64_t begin, end;  // of the bytes behind the header
};

placed_tensor parse_tensor(const std::string& name, const json& entry, const complaint& complain) {
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!entry.is_object() || !entry.contains(field)) {
      complain("tensor '{}': its header has no {}", name, field);
    }
  }
  const json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  const auto* const type = std::ranges::find_if(types, [&](const named_type& each) {
    return dtype.is_string() && dtype.get_ref<const std::string&>() == each.name;
  });
  if (type == std::end(types)) {
    complain("tensor '{}': its dtype is {}; what is read are F32, BF16 and F16", name,
             dtype.dump());
  }
  if (!shape.is_array()) complain("tensor '{}': its shape is no list", name);
  if (!offsets.is_array() || offsets.size() != 2) {
    complain("tensor '{}': its data_offsets are no two numbers", name);
  }
  placed_tensor placed{name,
                       {type->type, {}, {}},
                       unsigned_of(offsets[0], name, "data_offsets", complain),
                       unsigned_of(offsets[1], name, "data_offsets", complain)};
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max() / 8;
  std::uint64_t bytes = type->bytes;
  for (const json& each : shape) {
    const std::uint64_t extent = unsigned_of(each, name, "shape", complain);
    if (extent != 0 && bytes > most / extent) complain("tensor '{}': its shape is too large", name);
    bytes *= extent;
    placed.tensor.shape.push_back(static_cast<std::int64_t>(extent));
  }
  if (placed.end < placed.begin || placed.end - placed.begin != bytes) {
    complain("tensor '{}': {} needs {} bytes, its data_offsets are {} to {}", name,
             to_string(placed.tensor), bytes, placed.begin, placed.end);
  }
  return placed;
}

/// Every byte behind the header belongs to one tensor.
void require_no_gaps(std::vector<placed_tensor>& tensors, std::uint64_t size,
                     const complaint& complain) {
  std::ranges::sort(tensors, {},
                    [](const placed_tensor& each) { return std::pair(each.begin, each.end); });
  std::uint64_t end = 0;
  for (const placed_tensor& each : tensors) {
    if (each.begin != end) {
      complain("tensor '{}' begins at byte {}, the one before it ends at {}", each.name, each.begin,
               end);
    }
    end = each.end;
  }
  if (end != size) {
    complain("its tensors have {} bytes, the file has {}: it is {}", end, size,
             end > size ? "truncated" : "longer than its header says");
  }
}

}  // namespace

std::int64_t stored_tensor::count() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::string to_string(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string to_string(const stored_tensor& tensor) {
  const auto* const type = std::ranges::find(types, tensor.type, &named_type::type);
  return fmt::format("{} {}", type->name, to_string(std::span(tensor.shape)));
}

safetensors_file::safetensors_file(const std::filesystem::path& path) : path_(path) {
  const complaint complain(path);
  mapping file = map_file(path, complain);
  bytes_ = std::move(file.bytes);
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes_.get(), length_bytes);
  const std::uint64_t behind = file.size - length_bytes;
  if (header_size > behind || header_size > longest_header) {
    complain("its header has {} bytes, the file {}: it is truncated, or no safetensors file",
             header_size, file.size);
  }
  const auto* const text = reinterpret_cast<const char*>(bytes_.get()) + length_bytes;
  const json header = parse_header({text, header_size}, complain);
  std::vector<placed_tensor> found;
  for (const auto& [name, entry] : header.items()) {
    if (name != metadata) found.push_back(parse_tensor(name, entry, complain));
  }
  require_no_gaps(found, behind - header_size, complain);
  const std::byte* const first = bytes_.get() + length_bytes + header_size;
  for (placed_tensor& each : found) {
    each.tensor.bytes = {first + each.begin, static_cast<std::size_t>(each.end - each.begin)};
    tensors_.emplace(std::move(each.name), std::move(each.tensor));
  }
}

template <class T>
void read_elements(const stored_tensor& tensor, std::span<T> values) {
  BASED_REQUIRE(std::cmp_equal(values.size(), tensor.count()),
                fmt::format("{} has no {} elements", to_string(tensor), values.size()));
  const auto read = [&]<class Stored>(Stored) {
    const std::byte* from = tensor.bytes.data();
    for (T& value : values) {
      Stored stored;
      std::memcpy(&stored, from, sizeof stored);
      from += sizeof stored;
      value = from_float<T>(to_float(stored));
    }
  };
  switch (tensor.type) {
    case stored_type::f32:
      return read(float{});
    case stored_type::bf16:
      return read(bf16{});
    case stored_type::f16:
      return read(fp16{});
  }
}

template void read_elements(const stored_tensor&, std::span<float>);
template void read_elements(const stored_tensor&, std::span<bf16>);

}  // namespace based::models
