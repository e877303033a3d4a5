// Prints what the dispatcher of the Based prefill expects each variant to take, for constants that
// are given: scripts/fit_dispatch fits them through this, so that the model exists once.
//
// Standard input holds one request a line, each answered by one line:
//
//   card NAME                        the card's multiprocessors and constants, as name=value
//   problem HEADS SEQLEN OPTIONS     remembers a problem; OPTIONS: none, normalize, all
//   expect VALUE...                  with these constants, for each problem and each variant of it:
//                                    name=us:parts; one problem after another, parted by ";"
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/based/dispatch_constants.h"
#include "kernels/based/prefill_variants.h"

namespace based {
namespace {

constexpr std::pair<const char*, double prefill_constants::*> members[] = {
    {"launch_ns", &prefill_constants::launch_ns},
    {"throttled_part", &prefill_constants::throttled_part},
    {"cta_alone_ns", &prefill_constants::cta_alone_ns},
    {"cta_shared_ns", &prefill_constants::cta_shared_ns},
    {"chunk_alone_ns", &prefill_constants::chunk_alone_ns},
    {"chunk_shared_ns", &prefill_constants::chunk_shared_ns},
    {"chunk_left_ns", &prefill_constants::chunk_left_ns},
    {"left_in_pairs_part", &prefill_constants::left_in_pairs_part},
    {"left_in_pairs_chunks", &prefill_constants::left_in_pairs_chunks},
    {"chunk_traffic_ns", &prefill_constants::chunk_traffic_ns},
    {"normalize_alone_ns", &prefill_constants::normalize_alone_ns},
    {"normalize_shared_ns", &prefill_constants::normalize_shared_ns},
    {"normalize_pass_ns", &prefill_constants::normalize_pass_ns},
    {"state_ns", &prefill_constants::state_ns},
    {"state_crowded_ns", &prefill_constants::state_crowded_ns},
    {"hand_over_ns", &prefill_constants::hand_over_ns},
    {"segment_ns", &prefill_constants::segment_ns},
    {"pass_alone_ns", &prefill_constants::pass_alone_ns},
    {"pass_shared_ns", &prefill_constants::pass_shared_ns},
    {"segment_state_ns", &prefill_constants::segment_state_ns},
    {"segment_state_crowded_ns", &prefill_constants::segment_state_crowded_ns},
    {"recompute_pass_ns", &prefill_constants::recompute_pass_ns},
    {"recompute_sum_ns", &prefill_constants::recompute_sum_ns},
    {"quadratic_cta_ns", &prefill_constants::quadratic_cta_ns},
    {"pair_ns", &prefill_constants::pair_ns},
    {"pair_busy_ns", &prefill_constants::pair_busy_ns},
    {"quadratic_cta_busy_ns", &prefill_constants::quadratic_cta_busy_ns},
    {"initial_state_busy_ns", &prefill_constants::initial_state_busy_ns},
    {"final_state_chunk_ns", &prefill_constants::final_state_chunk_ns},
    {"quadratic_hidden_part", &prefill_constants::quadratic_hidden_part},
    {"mma_sync_cta_ns", &prefill_constants::mma_sync_cta_ns},
    {"mma_sync_alone_ns", &prefill_constants::mma_sync_alone_ns},
    {"mma_sync_shared_ns", &prefill_constants::mma_sync_shared_ns},
};
static_assert(std::size(members) * sizeof(double) == sizeof(prefill_constants));

prefill_options options_of(const std::string& text) {
  const bool all = text == "all";
  if (!all && text != "none" && text != "normalize") {
    throw std::invalid_argument("options '" + text + "': want none, normalize or all");
  }
  return {.normalize = all || text == "normalize", .initial_state = all, .final_state = all};
}

/// Answers based_predict's requests, one a line, by the model of prefill_cost.h.
class model_server {
 public:
  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string request;
    words >> request >> std::ws;
    if (request == "card") return card(std::string(std::istreambuf_iterator<char>(words), {}));
    if (request == "problem") return remember(words);
    if (request == "expect") return expect(words);
    throw std::invalid_argument("'" + request + "': want card, problem or expect");
  }

 private:
  std::string card(const std::string& name) {
    std::ostringstream text;
    for (const known_card& known : known_cards) {
      if (known.name != name) continue;
      multiprocessors_ = known.multiprocessors;
    }
    const prefill_constants& constants = constants_of(name, multiprocessors_);
    text << "multiprocessors=" << multiprocessors_;
    for (const auto& [member, pointer] : members)
      text << ' ' << member << '=' << constants.*pointer;
    return text.str();
  }

  std::string remember(std::istringstream& words) {
    std::int64_t heads = 0, seqlen = 0;
    std::string options;
    if (!(words >> heads >> seqlen >> options)) {
      throw std::invalid_argument("problem: want heads, seqlen, options");
    }
    problems_.push_back({{1, heads, seqlen}, options_of(options)});
    return std::to_string(problems_.size());
  }

  std::string expect(std::istringstream& words) {
    prefill_constants constants;
    for (const auto& [member, pointer] : members) {
      if (!(words >> constants.*pointer)) {
        throw std::invalid_argument(std::string("expect: no value for ") + member);
      }
    }
    const prefill_device device = {multiprocessors_, 9, 0, constants};
    std::ostringstream text;
    for (const prefill_problem& problem : problems_) {
      for (const prefill_rule& rule : prefill_rules()) {
        if (rule.unsupported(problem, device)) continue;
        const auto best = rule.plan(problem, device);
        text << rule.name << '=' << best.ns / 1000 << ':' << best.plan.parts << ' ';
      }
      text << ';';
    }
    return text.str();
  }

  int multiprocessors_ = known_cards[0].multiprocessors;
  std::vector<prefill_problem> problems_;
};

}  // namespace
}  // namespace based

int main() {
  based::model_server server;
  try {
    for (std::string line; std::getline(std::cin, line);) {
      std::cout << server.answer(line) << std::endl;
    }
  } catch (const std::exception& error) {
    std::cerr << "based_predict: " << error.what() << "\n";
    return 2;
  }
}
