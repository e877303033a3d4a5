// How much memory this process can still take.
#pragma once

#include <cstddef>
#include <filesystem>

namespace based {

/// The least of what the machine has available and what each control group of this process, and
/// each group around it, leaves below its limit (cgroup v1 and v2), in bytes. Files that a group
/// has in the page cache and does not use count as free, as the machine's own do. `root`: where
/// proc and sys/fs/cgroup are.
std::size_t free_host_bytes(const std::filesystem::path& root = "/");

}  // namespace based
