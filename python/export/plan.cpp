#include "python/export/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string_view>

namespace based::python {
namespace {

/// Cases of one plan that are kept; past that number all are made anew.
constexpr std::size_t most_cases = 4096;
constexpr std::size_t most_tensors = 32;

std::string name_of(DLDataType type) {
  const char* kind = type.code == kDLBfloat  ? "bfloat"
                     : type.code == kDLFloat ? "float"
                     : type.code == kDLInt   ? "int"
                     : type.code == kDLUInt  ? "uint"
                                             : "type ";
  const std::string name = fmt::format("{}{}", kind, type.bits);
  return type.lanes == 1 ? name : fmt::format("{}x{}", name, type.lanes);
}

std::string_view python_name(element_type type) {
  constexpr std::string_view names[] = {"float32", "bfloat16", "float16", "int32"};
  return names[static_cast<int>(type)];
}

std::optional<element_type> element_type_of(DLDataType type) {
  if (type.lanes != 1) return std::nullopt;
  if (type.code == kDLFloat && type.bits == 32) return element_type::f32;
  if (type.code == kDLBfloat && type.bits == 16) return element_type::bf16;
  if (type.code == kDLFloat && type.bits == 16) return element_type::fp16;
  if (type.code == kDLInt && type.bits == 32) return element_type::i32;
  return std::nullopt;
}

std::string device_name(const DLTensor& tensor) {
  switch (tensor.device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:
      return "cpu";
    case kDLCUDA:
    case kDLCUDAManaged:
      return fmt::format("cuda:{}", tensor.device.device_id);
    default:
      return fmt::format("a device of DLPack's type {}",
                         static_cast<int>(tensor.device.device_type));
  }
}

std::span<const std::int64_t> shape_of(const DLTensor& tensor) {
  return {tensor.shape, static_cast<std::size_t>(tensor.ndim)};
}

char* data_of(const DLTensor& tensor) {
  return static_cast<char*>(tensor.data) + tensor.byte_offset;
}

/// The strides in the order of the description; of a dimension of one element, which nothing reads,
/// the packed one, for frameworks write what they like there.
std::array<std::int64_t, most_dimensions> strides_of(const DLTensor& tensor,
                                                     const expected_tensor& expected) {
  if (tensor.strides == nullptr) {  // packed in the caller's order
    std::array<std::int64_t, most_dimensions> packed = {};
    std::int64_t step = 1;
    for (std::size_t d = expected.shape.size(); d-- > 0;) {
      packed[d] = step;
      step *= tensor.shape[d];
    }
    std::array<std::int64_t, most_dimensions> strides = {};
    for (std::size_t d = 0; d < expected.shape.size(); ++d) strides[d] = packed[expected.where[d]];
    return strides;
  }
  std::array<std::int64_t, most_dimensions> strides = {};
  for (std::size_t d = 0; d < expected.shape.size(); ++d) {
    strides[d] = expected.shape[d] == 1 ? expected.packed[d] : tensor.strides[expected.where[d]];
  }
  return strides;
}

/// The bytes from a tensor's first element to its last, and whether it has all of them.
struct memory_range {
  const char* begin;
  const char* end;
  bool dense;
};
memory_range range_of(const DLTensor& tensor, const expected_tensor& expected) {
  const auto strides = strides_of(tensor, expected);
  std::int64_t count = 1, last = 0;
  for (std::size_t d = 0; d < expected.shape.size(); ++d) {
    count *= expected.shape[d];
    last += (expected.shape[d] - 1) * strides[d];
  }
  const char* const begin = data_of(tensor);
  if (count == 0 || begin == nullptr) return {begin, begin, true};
  const auto bytes = static_cast<std::int64_t>(bytes_of(expected.type));
  return {begin, begin + (last + 1) * bytes, last + 1 == count};
}

/// Whether two tensors may have an element in common. Of interleaved parts of one buffer, whose
/// ranges overlap although their elements do not, only those that start at one place count.
bool overlap(const memory_range& a, const memory_range& b) {
  if (a.begin >= b.end || b.begin >= a.end) return false;
  return (a.dense && b.dense) || a.begin == b.begin;
}

}  // namespace

std::string text_of(std::string_view name, const DLTensor& tensor) {
  std::string text = fmt::format("{} is {} [{}] on {}", name, name_of(tensor.dtype),
                                 fmt::join(shape_of(tensor), ", "), device_name(tensor));
  if (tensor.strides != nullptr) {
    const std::span strides(tensor.strides, static_cast<std::size_t>(tensor.ndim));
    text += fmt::format(", strides [{}]", fmt::join(strides, ", "));
  }
  return text + fmt::format(", at {}", fmt::ptr(static_cast<const void*>(data_of(tensor))));
}

device_kind device_of(std::string_view name, const DLTensor& tensor) {
  switch (tensor.device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:
      return device_kind::cpu;
    case kDLCUDA:
    case kDLCUDAManaged:
      return device_kind::cuda;
    default:
      throw invalid_argument(text_of(name, tensor) + "; want one on cpu or cuda");
  }
}

void resolved_case::require(given_tensors tensors) const {
  std::array<memory_range, most_tensors> ranges;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const DLTensor& given = *tensors[i];
    const expected_tensor& wanted = expected_[i];
    if (given.device.device_type != tensors[0]->device.device_type ||
        given.device.device_id != tensors[0]->device.device_id) {
      throw invalid_argument(fmt::format("{}; want it on {}, as {} is", text_of(wanted.name, given),
                                         device_name(*tensors[0]), expected_[0].name));
    }
    if (element_type_of(given.dtype) != wanted.type) {
      throw wrong_type(
          fmt::format("{}; want {}", text_of(wanted.name, given), python_name(wanted.type)));
    }
    const std::size_t dimensions = wanted.shape.size();
    const auto strides = strides_of(given, wanted);
    bool contiguous = true;
    for (std::size_t d = 0; d < dimensions; ++d) {
      if (given.shape[wanted.where[d]] != wanted.shape[d]) {
        std::vector<std::int64_t> shape(dimensions);
        for (std::size_t e = 0; e < dimensions; ++e) shape[wanted.where[e]] = wanted.shape[e];
        throw invalid_argument(fmt::format("{}; want [{}]{}", text_of(wanted.name, given),
                                           fmt::join(shape, ", "), sizes_));
      }
      contiguous &= strides[d] == wanted.packed[d];
    }
    ranges[i] = range_of(given, wanted);
    const bool empty_tensor = ranges[i].begin == ranges[i].end;
    if (!empty_tensor && !(wanted.is_sequence ? strides[dimensions - 1] == 1 : contiguous)) {
      throw invalid_argument(
          fmt::format("{}; want {} (a copy is not made in secret)", text_of(wanted.name, given),
                      wanted.is_sequence ? "a last dimension of stride 1" : "it contiguous"));
    }
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (expected_[i].role == tensor_role::input) continue;
    for (std::size_t j = 0; j < tensors.size(); ++j) {
      if (i == j || !overlap(ranges[i], ranges[j])) continue;
      throw invalid_argument(fmt::format("{}, which is written, and {}; want them apart",
                                         text_of(expected_[i].name, *tensors[i]),
                                         text_of(expected_[j].name, *tensors[j])));
    }
  }
}

void resolved_case::run(given_tensors tensors, void* workspace, cuda_stream stream) const {
  placed_tensors placed;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const expected_tensor& wanted = expected_[i];
    std::size_t bytes = bytes_of(wanted.type);
    for (const std::int64_t extent : wanted.shape) bytes *= static_cast<std::size_t>(extent);
    placed.place(wanted.name, {data_of(*tensors[i]), bytes, strides_of(*tensors[i], wanted)});
  }
  try {
    solved_->bind(placed, workspace, workspace_bytes_)(stream);
  } catch (const invalid_argument& refused) {  // its message names a tensor, not what was given
    std::string message = fmt::format("{}: {}", implementation_, refused.what());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      message += "\n  " + text_of(expected_[i].name, *tensors[i]);
    }
    throw invalid_argument(message);
  }
}

namespace {

const operation& find_operation(const std::string& name) {
  const auto found = operations().find(name);
  if (found != operations().end()) return *found->second;
  std::vector<std::string_view> names;
  for (const auto& each : operations()) names.push_back(each.first);
  throw invalid_argument(
      fmt::format("there is no operation '{}'; want one of {}", name, fmt::join(names, ", ")));
}

bool holds_number(const axis_info& axis) {
  using enum axis_domain::kind;
  if (axis.domain.of == whole_number) return true;
  if (axis.domain.of != choice) return false;
  return std::ranges::all_of(axis.domain.names, [&](const std::string& name) {
    return std::holds_alternative<std::int64_t>(axis.domain.parse(axis.flag, name));
  });
}

}  // namespace

plan::plan(plan_request request)
    : request_(std::move(request)), operation_(find_operation(request_.operation)) {
  const std::vector<axis_info> axes = operation_.axes();
  for (const auto& [flag, text] : request_.axes) {
    const auto axis = std::ranges::find(axes, flag, &axis_info::flag);
    if (axis == axes.end()) {
      std::vector<std::string_view> flags;
      for (const axis_info& each : axes) flags.push_back(each.flag);
      throw invalid_argument(fmt::format("{} has no axis '{}'; want some of {}", request_.operation,
                                         flag, fmt::join(flags, ", ")));
    }
    fixed_[flag] = axis->domain.parse(flag, text);
  }
  bind_axes();
}

/// The description's tensors in the order of the caller's.
std::vector<tensor_spec> plan::specs(const axis_values& values, element_type io) const {
  const std::vector<tensor_spec> all = operation_.tensors(values, io);
  std::vector<tensor_spec> ordered;
  for (const std::string& name : request_.tensors) {
    const auto found = std::ranges::find(all, name, &tensor_spec::name);
    if (found != all.end()) ordered.push_back(*found);
  }
  if (ordered.size() != request_.tensors.size() || ordered.size() != all.size()) {
    std::vector<std::string_view> names;
    for (const tensor_spec& each : all) names.push_back(each.name);
    throw invalid_argument(fmt::format("{} has the tensors {}; given were {}", request_.operation,
                                       fmt::join(names, ", "), fmt::join(request_.tensors, ", ")));
  }
  return ordered;
}

/// Finds the axes that are the size of a tensor by asking the description for tensors with unusual
/// values of each: where a size follows the value, it is the value.
void plan::bind_axes() {
  constexpr std::int64_t first_unusual = 1009;
  axis_values probe = fixed_;
  std::vector<axis_info> open;  // without a value yet
  for (const axis_info& axis : operation_.axes()) {
    if (fixed_.contains(axis.flag) || !holds_number(axis)) continue;
    if (axis.domain.of == axis_domain::kind::whole_number) {
      probe[std::string(axis.flag)] = first_unusual + 2 * static_cast<std::int64_t>(open.size());
    }
    open.push_back(axis);
  }
  const std::vector<tensor_spec> floats = specs(probe, element_type::f32);
  const std::vector<expected_tensor> layout = expect(floats);
  for (const tensor_spec& each : floats) ranks_.push_back(static_cast<int>(each.shape.size()));
  const std::vector<tensor_spec> halves = specs(probe, element_type::bf16);
  while (io_tensor_ + 1 < floats.size() && floats[io_tensor_].type == halves[io_tensor_].type) {
    ++io_tensor_;
  }

  for (const axis_info& axis : open) {
    std::vector<axis_value> values = {probe[std::string(axis.flag)]};
    if (axis.domain.of == axis_domain::kind::choice) {
      values.clear();
      for (const std::string& name : axis.domain.names) {
        values.push_back(axis.domain.parse(axis.flag, name));
      }
    }
    std::vector<std::vector<tensor_spec>> probed;
    for (const axis_value& value : values) {
      axis_values with = probe;
      with[std::string(axis.flag)] = value;
      probed.push_back(specs(with, element_type::f32));
    }
    const auto follows = [&](std::size_t tensor, std::size_t dimension) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (probed[i][tensor].shape[dimension] != std::get<std::int64_t>(values[i])) return false;
      }
      return true;
    };
    bool found = false;
    for (std::size_t tensor = 0; tensor < floats.size() && !found; ++tensor) {
      for (std::size_t d = 0; d < floats[tensor].shape.size() && !found; ++d) {
        found = follows(tensor, d);
        if (found) bound_.push_back({axis, tensor, layout[tensor].where[d]});
      }
    }
  }
  if (bound_.size() + 3 > most_key_parts || floats.size() > most_tensors) {
    throw std::length_error(fmt::format("{} has too many axes or tensors", request_.operation));
  }
}

std::vector<expected_tensor> plan::expect(const std::vector<tensor_spec>& specs) const {
  std::vector<expected_tensor> all;
  for (const tensor_spec& spec : specs) {
    const bool swapped = spec.is_sequence && request_.order == sequence_order::bnhd;
    all.push_back({.name = std::string(spec.name),
                   .role = spec.role,
                   .type = spec.type,
                   .shape = spec.shape,
                   .where = swapped ? std::array<std::size_t, most_dimensions>{0, 2, 1, 3}
                                    : std::array<std::size_t, most_dimensions>{0, 1, 2, 3},
                   .is_sequence = spec.is_sequence,
                   .packed = packed_strides(spec, request_.order)});
  }
  return all;
}

plan::key plan::key_of(given_tensors tensors) const {
  if (tensors.size() != ranks_.size()) {
    throw invalid_argument(fmt::format("{} has {} tensors ({}); given were {}", request_.operation,
                                       ranks_.size(), fmt::join(request_.tensors, ", "),
                                       tensors.size()));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i]->ndim != ranks_[i]) {
      throw invalid_argument(fmt::format("{}; want {} dimensions",
                                         text_of(request_.tensors[i], *tensors[i]), ranks_[i]));
    }
  }
  const DLTensor& io = *tensors[io_tensor_];
  key made = {io.device.device_type, io.device.device_id,
              (std::int64_t{io.dtype.code} << 16) | (io.dtype.bits << 8) | io.dtype.lanes};
  for (std::size_t i = 0; i < bound_.size(); ++i) {
    made[3 + i] = tensors[bound_[i].tensor]->shape[bound_[i].dimension];
  }
  return made;
}

std::size_t plan::key_hash::operator()(const key& hashed) const {
  std::uint64_t hash = 0;
  for (const std::int64_t part : hashed) hash = mix64(hash ^ static_cast<std::uint64_t>(part));
  return hash;
}

std::shared_ptr<const resolved_case> plan::resolve(given_tensors tensors) {
  const key sizes = key_of(tensors);
  const std::scoped_lock lock(mutex_);
  if (const auto found = met_.find(sizes); found != met_.end()) return found->second;
  if (met_.size() >= most_cases) met_.clear();
  return met_[sizes] = make(tensors);
}

/// The axes' values, those of the tensors' sizes included. A size of 0 is let through.
axis_values plan::values_of(given_tensors tensors) const {
  axis_values values = fixed_;
  for (const bound_axis& each : bound_) {
    const DLTensor& tensor = *tensors[each.tensor];
    const std::int64_t size = tensor.shape[each.dimension];
    try {
      values[std::string(each.axis.flag)] =
          size == 0 ? size : each.axis.domain.parse(each.axis.flag, std::to_string(size));
    } catch (const invalid_argument& refused) {
      throw invalid_argument(fmt::format("{}: {} in dimension {}",
                                         text_of(request_.tensors[each.tensor], tensor),
                                         refused.what(), each.dimension));
    }
  }
  return values;
}

std::shared_ptr<const resolved_case> plan::make(given_tensors tensors) const {
  const std::string& io_name = request_.tensors[io_tensor_];
  const DLTensor& io_tensor = *tensors[io_tensor_];
  const device_kind device = device_of(io_name, io_tensor);
  const std::optional<element_type> io = element_type_of(io_tensor.dtype);
  if (!io) {
    throw wrong_type(text_of(io_name, io_tensor) + "; want float32, bfloat16 or float16");
  }
  const axis_values values = values_of(tensors);
  auto made = std::make_shared<resolved_case>();
  made->expected_ = expect(specs(values, *io));
  for (const bound_axis& each : bound_) {
    made->sizes_ +=
        fmt::format("{}{} {} of {}", made->sizes_.empty() ? ", for " : ", ", each.axis.flag,
                    tensors[each.tensor]->shape[each.dimension], request_.tensors[each.tensor]);
  }
  bool written = false, no_size = false;
  for (const expected_tensor& each : made->expected_) {
    const bool empty = std::ranges::find(each.shape, 0) != each.shape.end();
    no_size |= empty;
    written |= each.role != tensor_role::input && !empty;
  }
  if (!written) return made;
  if (no_size) {
    throw invalid_argument(fmt::format("{} cannot have a size of 0{}, unless nothing is written",
                                       request_.operation, made->sizes_));
  }
  choose_implementation(values, device, *io, *made);
  return made;
}

void plan::choose_implementation(const axis_values& values, device_kind device, element_type io,
                                 resolved_case& made) const {
  const std::vector<implementation_info> all = operation_.implementations();
  std::vector<std::string> on_device, types, reasons;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const implementation_info& info = all[i];
    if (info.device != device) continue;
    on_device.emplace_back(info.name);
    if (!request_.implementation.empty() && info.name != request_.implementation) continue;
    if (!request_.variant.empty() &&
        std::ranges::find(info.variants, request_.variant) == info.variants.end()) {
      reasons.push_back(fmt::format("{} has no variant '{}', but {}", info.name, request_.variant,
                                    info.variants.empty()
                                        ? std::string("one way only")
                                        : fmt::format("{}", fmt::join(info.variants, ", "))));
      continue;
    }
    if (std::ranges::find(info.types, io) == info.types.end()) {
      for (const element_type each : info.types) {
        const std::string name(python_name(each));
        if (std::ranges::find(types, name) == types.end()) types.push_back(name);
      }
      continue;
    }
    std::unique_ptr<operation_case> solved = operation_.make_case(i, values, request_.variant, io);
    if (const unsupported_reason reason = solved->unsupported()) {
      reasons.push_back(fmt::format("{}: {}", info.name, *reason));
      continue;
    }
    std::vector<tensor_spec> adapted = solved->tensors();
    std::vector<tensor_spec> ordered;
    for (const std::string& name : request_.tensors) {
      ordered.push_back(*std::ranges::find(adapted, name, &tensor_spec::name));
    }
    made.expected_ = expect(ordered);
    made.implementation_ = info.name;
    made.workspace_bytes_ = solved->workspace_bytes();
    made.solved_ = std::move(solved);
    return;
  }
  const std::string what = fmt::format("{} on {}", request_.operation, to_string(device));
  if (on_device.empty()) {
    throw invalid_argument(fmt::format("this build has no implementation of {}", what));
  }
  if (!reasons.empty()) {
    throw invalid_argument(fmt::format("no implementation of {} takes this{}: {}", what,
                                       made.sizes_, fmt::join(reasons, "; ")));
  }
  if (!types.empty()) {
    throw wrong_type(fmt::format("no implementation of {} takes elements of {}; want {}", what,
                                 python_name(io), fmt::join(types, " or ")));
  }
  throw invalid_argument(fmt::format("there is no implementation '{}' of {}; want one of {}",
                                     request_.implementation, what, fmt::join(on_device, ", ")));
}

}  // namespace based::python
