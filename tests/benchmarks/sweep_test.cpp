#include "benchmarks/harness/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"

namespace based {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Axis, ListsAndRanges) {
  EXPECT_THAT(parse_axis("--batch", "1,4,16"), ElementsAre(1, 4, 16));
  EXPECT_THAT(parse_axis("--seqlen", "1024:32768:*2"),
              ElementsAre(1024, 2048, 4096, 8192, 16384, 32768));
  EXPECT_THAT(parse_axis("--seqlen", "64:256:+64"), ElementsAre(64, 128, 192, 256));
  EXPECT_THAT(parse_axis("--seqlen", "1,3:20:*3,63"), ElementsAre(1, 3, 9, 63));
  EXPECT_THAT(parse_axis("--batch", "4,4,2"), ElementsAre(4, 2));
}

TEST(Axis, EveryMistakeIsNamed) {
  const auto message = [](const char* text) {
    try {
      parse_axis("--seqlen", text);
    } catch (const invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(message("abc"), HasSubstr("--seqlen: 'abc' is not a whole number"));
  EXPECT_THAT(message("0"), HasSubstr("'0' is outside 1 to 2147483647"));
  EXPECT_THAT(message("-3"), HasSubstr("'-3' is outside"));
  EXPECT_THAT(message("99999999999"), HasSubstr("'99999999999' is outside"));
  EXPECT_THAT(message("8:4:*2"), HasSubstr("'8:4:*2' ends before it starts"));
  EXPECT_THAT(message("4:8:*1"), HasSubstr("never grows"));
  EXPECT_THAT(message("4:8"), HasSubstr("is not a range"));
  EXPECT_THAT(message("4:8:2"), HasSubstr("is not a range"));
  EXPECT_THAT(message("4:8:*"), HasSubstr("is not a range"));
  EXPECT_THAT(message("1,,2"), HasSubstr("'' is not a whole number"));
  EXPECT_THAT(message(""), HasSubstr("'' is not a whole number"));
  EXPECT_THAT(message("12x"), HasSubstr("'12x' is not a whole number"));
}

}  // namespace
}  // namespace based
