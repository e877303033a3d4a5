// based_bench: every study, one binary. A new study is one line here.
#include "benchmarks/harness/suite.h"
#include "benchmarks/studies.h"

int main(int argc, char** argv) {
  const based::study studies[] = {
      based::based_prefill_rows,
      based::softmax_attention_rows,
      based::based_decode_rows,
      based::sliding_window_rows,
  };
  return based::run_suite(argc, argv, studies);
}
