#include "benchmarks/harness/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "benchmarks/harness/usage_error.h"

namespace based {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  throw usage_error(fmt::format("--benchmark_out: cannot write '{}': {}", path.string(), why));
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// The path that a chain of symbolic links ends at, which need not exist.
fs::path behind_links(const fs::path& path) {
  constexpr int longest_chain = 40;  // as the kernel's own limit
  fs::path at = path;
  for (int links = 0; links < longest_chain; ++links) {
    std::error_code none;
    const fs::path target = fs::read_symlink(at, none);
    if (none) return at;
    at = target.is_absolute() ? target : at.parent_path() / target;
  }
  refuse(path, std::strerror(ELOOP));
}

/// False with errno where not all of `text` arrived.
bool write_all(int descriptor, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(descriptor, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    done += static_cast<std::size_t>(wrote);
  }
  return true;
}

}  // namespace

output_file::output_file(const fs::path& path) : path_(path), shown_(path) {
  struct stat found {};
  const bool exists = stat(path.c_str(), &found) == 0;
  if (exists && S_ISDIR(found.st_mode)) refuse(path, "it is a folder");
  if (exists && !S_ISREG(found.st_mode)) {
    regular_ = false;
    descriptor_ = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor_ < 0) refuse(path, std::strerror(errno));
    return;
  }
  for (const int own : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat stream {};
    if (exists && fstat(own, &stream) == 0 && same_file(stream, found)) {
      refuse(path,
             "the output of this process already goes to it; --benchmark_format=json or "
             "csv puts the rows on standard output");
    }
  }
  path_ = behind_links(path);

  // The lock is on a file and not on its name: a process that opened the file before another
  // replaced it holds a lock on nothing, and tries again.
  for (;;) {
    struct stat locked {
    }, named{};
    const auto is_there = [&] { return stat(path_.c_str(), &named) == 0; };
    const bool was_there = is_there();
    locked_path_ = was_there ? path_ : neighbour(".lock");
    descriptor_ = open(locked_path_.c_str(), O_RDWR | O_CLOEXEC | (was_there ? 0 : O_CREAT), 0666);
    if (descriptor_ < 0 && was_there && errno == ENOENT) continue;
    if (descriptor_ < 0) refuse(path, std::strerror(errno));
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(std::exchange(descriptor_, -1));
      refuse(path, "another process is writing it");
    }
    if (is_there() == was_there && fstat(descriptor_, &locked) == 0 &&
        stat(locked_path_.c_str(), &named) == 0 && same_file(locked, named)) {
      break;
    }
    close(descriptor_);
  }
  // Fail before hours of measuring, not after: the folder must take a neighbour of the file.
  const fs::path folder = path_.has_parent_path() ? path_.parent_path() : fs::path(".");
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    const std::string why = std::strerror(errno);
    close(std::exchange(descriptor_, -1));
    refuse(path, fmt::format("its folder is not writable ({})", why));
  }
}

output_file::~output_file() {
  if (regular_ && locked_path_ != path_) unlink(locked_path_.c_str());
  if (descriptor_ >= 0) close(descriptor_);
}

fs::path output_file::neighbour(const std::string& ending) const {
  return path_.parent_path() / fmt::format(".{}{}", path_.filename().string(), ending);
}

void output_file::write(const std::string& text) {
  if (!regular_) {
    pending_ = text;
    return;
  }
  const fs::path partial = neighbour(fmt::format(".{}.partial", getpid()));
  const auto fail = [&](const std::string& why) {
    unlink(partial.c_str());
    throw std::runtime_error(fmt::format("cannot write '{}': {}", shown_.string(), why));
  };
  struct stat before {};
  fstat(descriptor_, &before);
  unlink(partial.c_str());  // a killed process of this number may have left one
  const int next = open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (next < 0) fail(std::strerror(errno));
  // The new file is locked before it has the name, so that the name is never without a lock.
  flock(next, LOCK_EX | LOCK_NB);
  const bool whole = write_all(next, text) && fchmod(next, before.st_mode & 07777) == 0 &&
                     rename(partial.c_str(), path_.c_str()) == 0;
  if (!whole) {
    const std::string why = std::strerror(errno);
    close(next);
    fail(why);
  }
  if (locked_path_ != path_) unlink(locked_path_.c_str());
  locked_path_ = path_;
  close(std::exchange(descriptor_, next));
}

void output_file::finish() {
  if (regular_) return;
  if (!write_all(descriptor_, pending_) || close(std::exchange(descriptor_, -1)) != 0) {
    throw std::runtime_error(
        fmt::format("cannot write '{}': {}", shown_.string(), std::strerror(errno)));
  }
}

}  // namespace based
