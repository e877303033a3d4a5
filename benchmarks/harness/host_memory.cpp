#include "benchmarks/harness/host_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "benchmarks/harness/sweep.h"

namespace based {
namespace {

namespace fs = std::filesystem;

/// The number in a file that holds nothing else; none where it says "max" or is missing.
std::optional<std::uint64_t> number_in(const fs::path& path) {
  std::uint64_t value = 0;
  return std::ifstream(path) >> value ? std::optional(value) : std::nullopt;
}

/// The number that follows `key` in a file of keys and numbers.
std::optional<std::uint64_t> value_of(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string found;
    std::uint64_t value = 0;
    if (words >> found >> value && found == key) return value;
  }
  return std::nullopt;
}

/// The names of a group's files, which differ between the two versions.
struct group_files {
  const char *limit, *usage, *inactive;
};
constexpr group_files version_1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file"};
constexpr group_files version_2 = {"memory.max", "memory.current", "inactive_file"};

/// What a group, or one around it up to `top`, leaves at least.
std::uint64_t left_in_group(const fs::path& top, const std::string& group,
                            const group_files& files) {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  // In a container the group may be named as the machine knows it, where only the top is to be
  // seen.
  std::vector<fs::path> folders = {top};
  for (const fs::path& part : fs::path(group).relative_path()) {
    folders.push_back(folders.back() / part);
  }
  for (const fs::path& folder : folders) {
    const auto limit = number_in(folder / files.limit), usage = number_in(folder / files.usage);
    if (!limit || !usage) continue;
    const std::uint64_t cached = value_of(folder / "memory.stat", files.inactive).value_or(0);
    const std::uint64_t used = *usage - std::min(cached, *usage);
    least = std::min(least, *limit - std::min(used, *limit));
  }
  return least;
}

}  // namespace

std::size_t free_host_bytes(const fs::path& root) {
  constexpr std::uint64_t kib = 1024;
  std::uint64_t least = value_of(root / "proc/meminfo", "MemAvailable:").value_or(0) * kib;
  const fs::path mounted = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/a/b" or "0::/a/b"
    const std::vector<std::string> parts = split(line, ':');
    if (parts.size() < 3) continue;
    const std::string group = line.substr(parts[0].size() + parts[1].size() + 2);
    const std::vector<std::string> controllers = split(parts[1]);
    if (std::ranges::find(controllers, "memory") != controllers.end()) {
      least = std::min(least, left_in_group(mounted / "memory", group, version_1));
    } else if (parts[0] == "0") {
      least = std::min(least, left_in_group(mounted, group, version_2));
    }
  }
  return least;
}

}  // namespace based
