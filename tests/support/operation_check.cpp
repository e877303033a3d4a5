#include "tests/support/operation_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/support/compare.h"

namespace based::support {
namespace {

constexpr std::uint64_t seed = 1;
constexpr std::int64_t row_step = 13;  // no tile of 16 rows goes unseen

/// Where each element of a tensor lies, in the order of its shape: f(index, place).
template <class Function>
void for_each_element(const tensor_spec& spec,
                      const std::array<std::int64_t, most_dimensions>& strides, Function f) {
  std::array<std::int64_t, most_dimensions> at = {};
  std::int64_t place = 0;
  for (std::int64_t index = 0; index < spec.count(); ++index) {
    f(index, place);
    for (std::size_t d = spec.shape.size(); d-- > 0;) {
      place += strides[d];
      if (++at[d] < spec.shape[d]) break;
      place -= at[d] * strides[d];
      at[d] = 0;
    }
  }
}

bool is_written(tensor_role role) {
  return role != tensor_role::input;
}

}  // namespace

checked_case::checked_case(const operation_case& solved, device_kind device, sequence_order order,
                           float factor)
    : case_(solved), device_(device), workspace_bytes_(solved.workspace_bytes()) {
  for (const tensor_spec& spec : solved.tensors()) {
    tensor made{.spec = spec, .strides = packed_strides(spec, order), .before = {}, .memory = {}};
    made.memory = std::make_unique<guarded_buffer<std::byte>>(
        device, static_cast<std::int64_t>(spec.bytes()));
    if (spec.role != tensor_role::output) {
      const random_stream values = spec.values(seed);
      // Single elements a token say how a state decays: they are not what a factor makes large.
      const bool is_scaled = spec.stddev != 0 && spec.is_sequence && spec.shape.back() > 1;
      made.before.resize(static_cast<std::size_t>(spec.count()));
      for (std::int64_t i = 0; i < spec.count(); ++i) {
        const float value = values(i) * (is_scaled ? factor : 1);
        made.before[static_cast<std::size_t>(i)] =
            spec.type == element_type::i32 ? value : to_float(to_bf16(value));
      }
    }
    placed_.emplace(spec.name, placed_tensor{made.memory->data(), spec.bytes(), made.strides});
    tensors_.push_back(std::move(made));
  }
  workspace_ = std::make_unique<guarded_buffer<std::byte>>(
      device, static_cast<std::int64_t>(workspace_bytes_));
  case_.arrange(*this);
  reset();
}

void checked_case::reset() {
  for (tensor& each : tensors_) {
    if (each.before.empty()) {
      each.memory->poison();
    } else {
      upload(each, each.before);
    }
  }
}

void checked_case::run() {
  run(workspace_->data(), workspace_bytes_);
}

std::function<void(cuda_stream)> checked_case::bound() {
  placed_tensors arguments;
  for (const auto& [name, place] : placed_) arguments.place(name, place);
  return case_.bind(arguments, workspace_->data(), workspace_bytes_);
}

void checked_case::run(void* workspace, std::size_t workspace_bytes) {
  placed_tensors arguments;
  for (const auto& [name, place] : placed_) arguments.place(name, place);
  case_.bind(arguments, workspace, workspace_bytes)(nullptr);
  synchronize(device_);
}

/// What the tensors hold after a call, each read once however many parts of it are asked for.
class checked_case::result final : public tensor_access {
 public:
  explicit result(const checked_case& call) : call_(call) {
    for (const tensor& each : call.tensors_) held_[each.spec.name] = download(each);
  }
  const std::vector<float>& all(std::string_view name) const { return held_.at(name); }

  std::vector<float> get(std::string_view name, std::int64_t offset,
                         std::int64_t count) const override {
    const auto found = held_.find(name);
    if (found == held_.end()) return {};
    return {found->second.begin() + offset, found->second.begin() + offset + count};
  }
  std::vector<float> before(std::string_view name, std::int64_t offset,
                            std::int64_t count) const override {
    return call_.before(name, offset, count);
  }
  void put(std::string_view, std::int64_t, std::span<const float>) override {}

 private:
  const checked_case& call_;
  std::map<std::string_view, std::vector<float>> held_;
};

std::vector<std::string> checked_case::problems(double tolerance) const {
  std::vector<std::string> wrong;
  const result held(*this);
  const auto check_guards = [&](std::string_view name, const guarded_buffer<std::byte>& memory) {
    if (const auto damage = memory.guard_damage()) {
      wrong.push_back(fmt::format("{}: {}", name, *damage));
    }
  };
  bool finite = true;
  for (const tensor& each : tensors_) {
    check_guards(each.spec.name, *each.memory);
    const std::vector<float>& values = held.all(each.spec.name);
    if (!is_written(each.spec.role) && values != each.before) {
      wrong.push_back(fmt::format("{}, an input, has changed", each.spec.name));
    }
    const auto bad = std::ranges::find_if_not(values, [&](float x) {
      return std::isfinite(x) || (each.spec.may_be_infinite && !std::isnan(x));
    });
    if (is_written(each.spec.role) && bad != values.end()) {
      wrong.push_back(fmt::format("{}: element {} is not finite or was never written",
                                  each.spec.name, bad - values.begin()));
      finite = false;
    }
  }
  check_guards("workspace", *workspace_);
  if (!finite) return wrong;
  const verification found = case_.compare(held, {.seed = seed, .row_step = row_step});
  const auto judge = [&](std::string_view what, double error, double allowed) {
    if (error <= allowed) return;
    wrong.push_back(fmt::format("{} relative error {:.3g} of {}, at most {:.3g} is allowed", what,
                                error, found.where, allowed));
  };
  judge("the", found.relative_error, tolerance);
  judge("one row has", found.worst_row_error, comparison::row_allowance * tolerance);
  return wrong;
}

std::vector<std::vector<std::byte>> checked_case::written() const {
  std::vector<std::vector<std::byte>> all;
  for (const tensor& each : tensors_) {
    if (is_written(each.spec.role)) all.push_back(each.memory->read());
  }
  return all;
}

bool checked_case::is_untouched() const {
  return std::ranges::all_of(tensors_, [this](const tensor& each) {
    const std::vector<std::byte> bytes = each.memory->read();
    if (each.spec.role == tensor_role::output) {
      return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0xff}; });
    }
    return download(each) == each.before;
  });
}

std::vector<float> checked_case::get(std::string_view name, std::int64_t offset,
                                     std::int64_t count) const {
  const tensor* from = find(tensors_, name);
  if (from == nullptr) return {};
  // Before the first call inputs are still on the host alone; they never change.
  const std::vector<float> all = is_written(from->spec.role) ? download(*from) : from->before;
  return {all.begin() + offset, all.begin() + offset + count};
}

std::vector<float> checked_case::get(std::string_view name) const {
  return get(name, 0, find(tensors_, name)->spec.count());
}

std::vector<float> checked_case::before(std::string_view name, std::int64_t offset,
                                        std::int64_t count) const {
  const tensor* from = find(tensors_, name);
  if (from == nullptr) return {};
  return {from->before.begin() + offset, from->before.begin() + offset + count};
}

void checked_case::put(std::string_view name, std::int64_t offset, std::span<const float> values) {
  tensor* to = find(tensors_, name);
  if (to == nullptr) return;
  std::ranges::copy(values, to->before.begin() + offset);
}

void checked_case::write(std::string_view name, std::int64_t offset,
                         std::span<const float> values) {
  tensor* to = find(tensors_, name);
  if (to == nullptr) return;
  const bool is_output = to->spec.role == tensor_role::output;
  std::vector<float> all = is_output ? download(*to) : to->before;
  std::ranges::copy(values, all.begin() + offset);
  upload(*to, all);
  if (!is_output) to->before = std::move(all);
}

void checked_case::upload(const tensor& to, std::vector<float>& values) {
  std::vector<std::byte> bytes(to.spec.bytes());
  with_type_of(to.spec.type, [&]<class T>(std::type_identity<T>) {
    for_each_element(to.spec, to.strides, [&](std::int64_t index, std::int64_t place) {
      const T value = from_float<T>(values[static_cast<std::size_t>(index)]);
      std::memcpy(bytes.data() + place * static_cast<std::int64_t>(sizeof(T)), &value, sizeof(T));
      values[static_cast<std::size_t>(index)] = to_float(value);
    });
  });
  to.memory->write(bytes);
}

std::vector<float> checked_case::download(const tensor& from) {
  const std::vector<std::byte> bytes = from.memory->read();
  std::vector<float> values(static_cast<std::size_t>(from.spec.count()));
  with_type_of(from.spec.type, [&]<class T>(std::type_identity<T>) {
    for_each_element(from.spec, from.strides, [&](std::int64_t index, std::int64_t place) {
      T value;
      std::memcpy(&value, bytes.data() + place * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
      values[static_cast<std::size_t>(index)] = to_float(value);
    });
  });
  return values;
}

}  // namespace based::support
