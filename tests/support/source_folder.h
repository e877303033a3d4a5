// Where the files are that tests read beside what was built.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace based::support {

/// The checkout: the one that the environment names, for binaries that were carried to another
/// machine, or else the one that they were built from.
inline std::filesystem::path source_folder() {
  const char* carried = std::getenv("BASED_SOURCE_DIR");
  return carried != nullptr ? carried : BASED_SOURCE_DIR;
}

}  // namespace based::support
