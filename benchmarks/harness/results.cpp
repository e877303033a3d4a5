#include "benchmarks/harness/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "benchmarks/harness/usage_error.h"

namespace based {
namespace {

using nlohmann::ordered_json;

/// What a results file must share with this run for its rows to stand beside this run's.
constexpr const char* identity_keys[] = {"schema",    "revision", "compiled_for", "seed",
                                         "l2_policy", "cpu_name", "cpu_threads",  "gpu_name"};

/// Google Benchmark's own JSON, parsed. An aggregate of counters that are all 0 has no coefficient
/// of variation; Google Benchmark prints NaN in its place, which JSON does not know.
template <class Report>
ordered_json google_json(const std::string& before, const std::string& after, Report report) {
  std::ostringstream text;
  benchmark::JSONReporter reporter;
  reporter.SetOutputStream(&text);
  reporter.SetErrorStream(&text);
  report(reporter);
  static const std::regex not_a_number(": -?(NaN|Infinity)(?=[,\n}])");
  return ordered_json::parse(before + std::regex_replace(text.str(), not_a_number, ": null") +
                             after);
}

/// In microseconds, to a tenth of a nanosecond.
ordered_json microseconds(const std::vector<double>& seconds) {
  ordered_json values = ordered_json::array();
  for (double each : seconds) values.push_back(std::round(each * 1e10) / 1e4);
  return values;
}

/// What is wrong with a row of a results file; empty: nothing.
std::string fault_of(const ordered_json& run) {
  const auto field = [&](const char* name) { return run.value(name, ordered_json()); };
  const auto wrong = [&](const char* name, std::string_view want) {
    return fmt::format("{} is {}; want {}", name,
                       field(name).dump(-1, ' ', false, ordered_json::error_handler_t::replace),
                       want);
  };
  if (!field("name").is_string()) return wrong("name", "a text");
  if (const auto device = field("device"); device != "cpu" && device != "cuda") {
    return wrong("device", "cpu or cuda");
  }
  if (!field("params").is_object()) return wrong("params", "an object");
  if (field("run_type") == "aggregate") return {};
  constexpr row_status all[] = {row_status::ok, row_status::profiled, row_status::skipped,
                                row_status::out_of_memory, row_status::error};
  const bool known =
      std::ranges::any_of(all, [&](row_status each) { return field("status") == to_string(each); });
  if (!known) return wrong("status", "ok, profiled, skipped, out_of_memory or error");
  if (field("status") != "ok") return {};
  if (!field("real_time").is_number()) return wrong("real_time", "a number");
  const ordered_json samples = field("samples_us");
  const bool numbers = samples.is_array() && std::ranges::all_of(samples, [](const auto& each) {
                         return each.is_number();
                       });
  return numbers ? "" : wrong("samples_us", "a list of numbers");
}

}  // namespace

std::string row_name_of(const std::string& run_name) {
  return run_name.substr(0, run_name.find("/manual_time"));
}

std::string_view to_string(row_status status) {
  switch (status) {
    case row_status::ok:
      return "ok";
    case row_status::profiled:
      return "profiled";
    case row_status::skipped:
      return "skipped";
    case row_status::out_of_memory:
      return "out_of_memory";
    case row_status::error:
      return "error";
  }
  return "error";
}

void row_log::add(const row_spec& spec, row_record record) {
  any_error_ |= record.status == row_status::error;
  entry& row = entries_[spec.name()];
  if (row.identity.is_null()) {
    row.identity = {{"row", spec.name()},
                    {"operation", spec.operation},
                    {"implementation", spec.implementation},
                    {"role", to_string(spec.role)},
                    {"device", to_string(spec.device)}};
    if (!spec.reimplements.empty()) row.identity["reimplements"] = spec.reimplements;
    if (!spec.version.empty()) row.identity["version"] = spec.version;
    ordered_json& params = row.identity["params"] = ordered_json::object();
    for (const auto& [key, value] : spec.parameters) {
      std::visit([&, k = key](const auto& v) { params[k] = v; }, value);
    }
  }
  row.records.push_back(std::move(record));
}

const row_record* row_log::last(const std::string& row_name) const {
  const auto found = entries_.find(row_name);
  return found == entries_.end() ? nullptr : &found->second.records.back();
}

const row_record* row_log::find(const std::string& row_name, std::int64_t index) const {
  const auto found = entries_.find(row_name);
  if (found == entries_.end() || index < 0) return nullptr;
  const std::vector<row_record>& records = found->second.records;
  const auto at = static_cast<std::size_t>(index);
  return at < records.size() ? &records[at] : nullptr;
}

ordered_json row_log::fields(const std::string& row_name, std::int64_t index) const {
  const auto found = entries_.find(row_name);
  if (found == entries_.end()) return ordered_json::object();
  ordered_json fields = found->second.identity;
  const row_record* found_record = find(row_name, index);
  if (found_record == nullptr) return fields;
  const row_record& record = *found_record;
  fields["status"] = to_string(record.status);
  if (!record.reason.empty()) fields["reason"] = record.reason;
  if (record.needs_bytes > 0) {
    if (record.needs_bytes < 0x1p63) {
      fields["needs_bytes"] = static_cast<std::int64_t>(record.needs_bytes);
    } else {
      fields["needs_bytes"] = record.needs_bytes;
    }
  }
  if (record.status == row_status::ok) {
    fields["timing"] = record.rotated ? "rotation" : "calls";
    if (!record.throttle_reasons.empty()) fields["throttle_reasons"] = record.throttle_reasons;
    if (!record.noise.empty()) fields["noise"] = record.noise;
    if (!record.queued.empty()) fields["queued"] = record.queued;
    if (!record.energy_absent.empty()) fields["energy_absent"] = record.energy_absent;
    fields["samples_us"] = microseconds(record.samples);
    if (!record.burst_samples.empty()) {
      fields["burst_samples_us"] = microseconds(record.burst_samples);
    }
  }
  return fields;
}

earlier_results read_earlier(const std::filesystem::path& path,
                             const std::map<std::string, std::string>& context,
                             const std::set<std::string>& selected) {
  std::ifstream file(path);
  if (!file) {
    throw usage_error(
        fmt::format("--resume: cannot read '{}': {}", path.string(), std::strerror(errno)));
  }
  const ordered_json document = ordered_json::parse(file, nullptr, /*allow_exceptions=*/false);
  const auto refuse = [&](const std::string& why) {
    throw usage_error(fmt::format("--resume: '{}' {}", path.string(), why));
  };
  if (document.is_discarded()) refuse("is not complete JSON: want a results file of based_bench");
  if (!document.is_object() || !document.contains("context") || !document["context"].is_object() ||
      !document.contains("benchmarks") || !document["benchmarks"].is_array()) {
    refuse("has no context and benchmarks: want a results file of based_bench");
  }
  if (document.contains("contexts")) refuse("was merged from several: resume each of those");
  for (const char* key : identity_keys) {
    const ordered_json stored = document["context"].value(key, ordered_json(nullptr));
    const auto here = context.find(key);
    const ordered_json want =
        here == context.end() ? ordered_json(nullptr) : ordered_json(here->second);
    if (stored != want) {
      refuse(
          fmt::format("was measured with {} {}, this run has {}: its rows do not belong beside "
                      "this run's",
                      key, stored.dump(), want.dump()));
    }
  }

  if (document["context"]["revision"] == "unknown") {
    refuse("does not say of which revision it is: two unknown revisions need not be the same");
  }

  earlier_results earlier;
  std::set<std::string> seen;
  for (const ordered_json& run : document["benchmarks"]) {
    if (!run.is_object() || !run.contains("row") || !run["row"].is_string()) {
      refuse("holds a row without its name: want a results file of based_bench");
    }
    const std::string name = run["row"];
    if (const std::string why = fault_of(run); !why.empty()) {
      refuse(fmt::format("holds row '{}', whose {}", name, why));
    }
    // Repetitions and aggregates of a row stand beside each other.
    if (!seen.insert(run["name"].dump() + run.value("repetition_index", ordered_json()).dump())
             .second) {
      refuse(fmt::format("holds row '{}' twice", name));
    }
    const ordered_json status = run.value("status", ordered_json());
    const bool measured = status != "error" && status != "profiled";
    if (!measured && selected.count(name) > 0) continue;
    earlier.rows.insert(name);
    earlier.lines.push_back(run.dump());
  }
  return earlier;
}

std::string json_document::opening(const benchmark::BenchmarkReporter::Context& context) {
  const ordered_json document =
      google_json("", "]}", [&](auto& reporter) { reporter.ReportContext(context); });
  return "{\n\"context\": " + document["context"].dump(2) + ",\n\"benchmarks\": [\n";
}

std::vector<std::string> json_document::lines(
    const std::vector<benchmark::BenchmarkReporter::Run>& runs) const {
  const ordered_json rows =
      google_json("[", "]", [&](auto& reporter) { reporter.ReportRuns(runs); });
  std::vector<std::string> lines;
  for (ordered_json row : rows) {
    const bool aggregate = row.value("run_type", "") == "aggregate";
    const std::int64_t index = aggregate ? -1 : row.value("repetition_index", std::int64_t{0});
    row.update(log_.fields(row_name_of(row["run_name"]), index));
    lines.push_back(row.dump());
  }
  return lines;
}

bool results_reporter::ReportContext(const Context& context) {
  opening_ = json_document::opening(context);
  write();
  return true;
}

void results_reporter::ReportRuns(const std::vector<Run>& runs) {
  std::ranges::move(document_.lines(runs), std::back_inserter(lines_));
  write();
}

void results_reporter::write() const {
  std::string text = opening_;
  for (std::size_t i = 0; i < lines_.size(); ++i) text += (i == 0 ? "" : ",\n") + lines_[i];
  file_.write(text + std::string(json_document::closing));
}

std::string utf8_text(const std::string& text) {
  std::string valid;
  for (std::size_t at = 0; at < text.size();) {
    const auto byte = [&](std::size_t i) {
      return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    };
    const unsigned lead = byte(at), next = byte(at + 1);
    // Unicode 15, table 3-7: the lengths, and the second bytes that would be too short a code, a
    // surrogate or beyond the last code point.
    std::size_t length = 0;
    if (lead < 0x80) length = 1;
    if (lead >= 0xc2 && lead <= 0xdf) length = 2;
    if (lead >= 0xe0 && lead <= 0xef && !(lead == 0xe0 && next < 0xa0) &&
        !(lead == 0xed && next > 0x9f)) {
      length = 3;
    }
    if (lead >= 0xf0 && lead <= 0xf4 && !(lead == 0xf0 && next < 0x90) &&
        !(lead == 0xf4 && next > 0x8f)) {
      length = 4;
    }
    for (std::size_t i = 1; i < length; ++i) {
      if ((byte(at + i) & 0xc0) != 0x80) length = 0;
    }
    if (length == 0) {
      valid += fmt::format("\\x{:02x}", lead);
      ++at;
    } else {
      valid.append(text, at, length);
      at += length;
    }
  }
  return valid;
}

}  // namespace based
