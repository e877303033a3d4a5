// Prints what the dispatcher of the Based prefill expects each variant to take, for constants that
// are given: scripts/fit_dispatch fits them through this, so that the model exists once.
//
// Standard input holds one request a line, each answered by one line:
//
//   card NAME                        the card's multiprocessors, and its constants in order
//   problem HEADS SEQLEN OPTIONS     remembers a problem; OPTIONS: none, normalize, all
//   expect VALUE...                  with these constants, for each problem and each variant of it:
//                                    name=us:parts; one problem after another, parted by ";"
#include <array>
#include <bit>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/based/dispatch_constants.h"
#include "kernels/based/prefill_variants.h"

namespace based {
namespace {

/// All constants of a card, in the order in which they are declared: that of dispatch_constants.h,
/// which has their names.
using constant_values = std::array<double, sizeof(prefill_constants) / sizeof(double)>;

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
    text << multiprocessors_;
    for (const double value :
         std::bit_cast<constant_values>(constants_of(name, multiprocessors_))) {
      text << ' ' << value;
    }
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
    constant_values values;
    for (double& value : values) {
      if (!(words >> value)) {
        throw std::invalid_argument("expect: want " + std::to_string(values.size()) + " values");
      }
    }
    const auto constants = std::bit_cast<prefill_constants>(values);
    const prefill_device device = {{multiprocessors_, 9, 0}, constants};
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
