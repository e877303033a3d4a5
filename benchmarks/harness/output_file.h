// A file that is written anew after every row: a reader finds the old text or the new one, never a
// part, and no second process writes it meanwhile.
#pragma once

#include <filesystem>
#include <string>

namespace based {

/// A regular file is replaced by a rename, behind a symbolic link the file that the link names, and
/// stays locked (flock) from the constructor to the destructor. A device, a fifo or a socket is
/// never replaced: it is written once, by finish().
class output_file {
 public:
  /// Opens and locks `path`, or where there is no file yet a neighbour until there is. Throws
  /// usage_error naming the path where it is a folder, cannot be written, is this process's own
  /// standard output as a regular file, or is locked by another process.
  explicit output_file(const std::filesystem::path& path);
  ~output_file();
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;

  /// Makes `text` the whole content. Throws std::runtime_error where it cannot be written (a full
  /// disk, say); a regular file then has its old content.
  void write(const std::string& text);
  /// The last write() is the final one.
  void finish();

 private:
  /// A hidden file in the folder of the file.
  std::filesystem::path neighbour(const std::string& ending) const;

  std::filesystem::path path_;  ///< of the file itself, behind all links
  std::filesystem::path shown_;
  std::filesystem::path locked_path_;  ///< path_, or a neighbour as long as there is no file
  int descriptor_ = -1;                ///< of the locked file, or of what is written through
  bool regular_ = true;
  std::string pending_;  ///< what finish() writes through
};

}  // namespace based
