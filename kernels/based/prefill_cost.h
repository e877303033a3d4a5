// What a variant of the Based prefill is expected to take: a few physical constants of a card, and
// how each variant's time is made of them. Host-includable.
//
// The variants differ in how they spread a head's chunks over multiprocessors, so a time is that of
// the multiprocessor that ends last: a call's launches, what a CTA takes to begin and to end, and
// its chunks one after another. A multiprocessor holds one CTA or two (mma_sync: two; quadratic:
// four, or two with states), and each chunk takes longer the more of the card is at work, for all
// share its memory. Long calls run into the power limit, which slows every variant alike.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "kernels/based/prefill.h"
#include "kernels/based/prefill_sm90/segments.h"

namespace based {

/// Constants of one card. scripts/fit_dispatch measures and fits them. "Alone": the CTA
/// has the multiprocessor to itself; "shared": another CTA at equal work is beside it.
struct prefill_constants {
  double launch_ns;       ///< of a call: what even an empty kernel takes
  double throttled_part;  ///< not ns: a call at the power limit takes this part longer a ms

  double cta_alone_ns;  ///< a CTA's start and end: barriers, first loads and features, last stores
  double cta_shared_ns;
  double chunk_alone_ns;
  double chunk_shared_ns;
  double chunk_left_ns;         ///< of a CTA made to share whose neighbour has ended
  double left_in_pairs_part;    ///< not ns: from so many a multiprocessor on the CTAs that are left
                                ///< for a last round sit in pairs
  double left_in_pairs_chunks;  ///< not ns: if they have so many chunks
  double chunk_traffic_ns;      ///< in which the memory moves a chunk of every multiprocessor

  double normalize_alone_ns;   ///< what normalisation adds to a chunk
  double normalize_shared_ns;  ///< and to one of two side by side
  double normalize_pass_ns;    ///< and to one that is only passed over for its state
  double state_ns;             ///< a state in or out
  double state_crowded_ns;     ///< on top, where every multiprocessor has one

  double hand_over_ns;      ///< of heads between CTAs: flags cleared, tickets drawn, a state moved
  double segment_ns;        ///< start and end of a CTA of the kernel that sums up segments
  double pass_alone_ns;     ///< a chunk in a pass for the state only
  double pass_shared_ns;    ///< a chunk in one of two such passes side by side
  double segment_state_ns;  ///< adding one segment's state
  double segment_state_crowded_ns;  ///< on top, where every multiprocessor has a CTA
  double recompute_pass_ns;         ///< an earlier chunk that a CTA of `recompute` passes over
  double recompute_sum_ns;          ///< adding up what was passed

  double quadratic_cta_ns;       ///< start and end of a CTA of the quadratic form
  double pair_ns;                ///< a pair of chunks, in the chain of one CTA
  double pair_busy_ns;           ///< a pair of chunks, of a multiprocessor's time
  double quadratic_cta_busy_ns;  ///< a CTA's start and end, of a multiprocessor's time
  double initial_state_busy_ns;  ///< an initial state in a CTA, of a multiprocessor's time
  double final_state_chunk_ns;   ///< a chunk in the CTA that adds up a final state
  double quadratic_hidden_part;  ///< not ns: how much of the shorter of chain and work is hidden

  double mma_sync_cta_ns;
  double mma_sync_alone_ns;  ///< a chunk
  double mma_sync_shared_ns;
};

/// The times, in ns, of one problem on a card with so many multiprocessors.
class prefill_cost {
 public:
  prefill_cost(const prefill_constants& card, const prefill_problem& problem,
               std::int64_t multiprocessors)
      : card_(card),
        options_(problem.options),
        states_(problem.options.initial_state + problem.options.final_state),
        heads_(static_cast<double>(problem.shape.batch_heads())),
        chunks_(static_cast<double>(sm90::chunks_of(problem.shape))),
        multiprocessors_(static_cast<double>(multiprocessors)) {}

  double whole() const { return call(in_rounds(wgmma_cta(), heads_, chunks_)); }

  /// A first kernel sums up all segments but the last; then each CTA adds those before its own.
  double split(int segments) const {
    const double chunks = rounded_up(chunks_ / segments);
    const double summed = heads_ * (segments - 1);
    const bool alone = summed <= multiprocessors_;
    const double pass = alone ? card_.pass_alone_ns : card_.pass_shared_ns;
    const double ctas = heads_ * segments;
    const double added =
        card_.segment_state_ns + ctas / multiprocessors_ * card_.segment_state_crowded_ns;
    return call(rounds_of(2, summed) * (card_.segment_ns + chunks * (pass + moments_pass())) +
                (segments - 1) * added + in_rounds(wgmma_cta(), ctas, chunks));
  }

  /// The slowest segment: what it passes over, then its own chunks.
  double recompute(int segments) const {
    const cta_cost cta = wgmma_cta();
    const double ctas = heads_ * segments;
    const int chunks = static_cast<int>(chunks_);
    double longest = 0;
    for (int i = 0; i < segments; ++i) {
      const int begin = sm90::recompute_begin(chunks, segments, i);
      const int own = sm90::recompute_begin(chunks, segments, i + 1) - begin;
      const double pass = card_.recompute_pass_ns + moments_pass();
      const double before = i > 0 ? card_.recompute_sum_ns + begin * pass : 0;
      longest = std::max(longest, before + of_cta(cta.alone_ns, cta.chunk_alone_ns, ctas, own));
    }
    return call(rounds_of(1, ctas) * longest);
  }

  /// Every place works on its share of the heads, and begins one head more than that.
  double balanced(int places) const {
    const cta_cost cta = wgmma_cta();
    const bool alone = places <= multiprocessors_;
    const double start = alone ? cta.alone_ns : cta.shared_ns;
    const double chunk = alone ? cta.chunk_alone_ns : cta.chunk_shared_ns;
    return call(card_.hand_over_ns + start +
                heads_ / places * of_cta(start, chunk, places, chunks_));
  }

  /// A CTA's chain of pairs, and all the work that a multiprocessor's CTAs share; the shorter of
  /// the two is hidden in part.
  double quadratic() const {
    double chain = card_.quadratic_cta_ns + chunks_ * card_.pair_ns;
    double pairs = chunks_ * (chunks_ + 1) / 2, ctas = chunks_;
    double states = 0;
    if (options_.initial_state) {
      chain += card_.state_ns;
      states = ctas * card_.initial_state_busy_ns;
    }
    if (options_.final_state) {
      chain = std::max(chain, card_.quadratic_cta_ns + states_ * card_.state_ns +
                                  chunks_ * (card_.final_state_chunk_ns + moments_pass()));
      pairs += chunks_;
      ctas += 1;
    }
    const double work = heads_ / multiprocessors_ *
                        (ctas * card_.quadratic_cta_busy_ns + pairs * card_.pair_busy_ns + states +
                         states_ * card_.state_crowded_ns);
    return call(std::max(chain, work) + (1 - card_.quadratic_hidden_part) * std::min(chain, work));
  }

  double mma_sync() const {
    const cta_cost cta = {card_.mma_sync_cta_ns, card_.mma_sync_cta_ns, card_.mma_sync_alone_ns,
                          card_.mma_sync_shared_ns, card_.mma_sync_alone_ns};
    return call(in_rounds(cta, heads_, chunks_));
  }

 private:
  /// What a CTA takes to start and end, and for a chunk.
  struct cta_cost {
    double alone_ns, shared_ns;
    double chunk_alone_ns, chunk_shared_ns, chunk_left_ns;
  };

  cta_cost wgmma_cta() const {
    const double alone = options_.normalize ? card_.normalize_alone_ns : 0;
    const double shared = options_.normalize ? card_.normalize_shared_ns : 0;
    return {card_.cta_alone_ns, card_.cta_shared_ns, card_.chunk_alone_ns + alone,
            card_.chunk_shared_ns + shared, card_.chunk_left_ns + alone};
  }

  /// What normalisation adds to a chunk that is passed over.
  double moments_pass() const { return options_.normalize ? card_.normalize_pass_ns : 0; }

  static double rounded_down(double x) { return static_cast<double>(static_cast<std::int64_t>(x)); }
  static double rounded_up(double x) { return rounded_down(x) + (x > rounded_down(x)); }
  /// How many rounds CTAs come in of which so many fit on a multiprocessor.
  double rounds_of(int a_multiprocessor, double ctas) const {
    return rounded_up(ctas / (a_multiprocessor * multiprocessors_));
  }

  /// What a call of so long takes in all, with its launch and at the power limit.
  double call(double ns) const {
    const double total = card_.launch_ns + ns;
    return total * (1 + card_.throttled_part * total * 1e-6);
  }

  /// A CTA's states and chunks while `ctas` of them are at work on the card.
  double of_cta(double start_ns, double chunk_ns, double ctas, double chunks) const {
    const double crowd = ctas / multiprocessors_;
    return start_ns + states_ * state(ctas) +
           chunks * slower_of(chunk_ns, crowd * card_.chunk_traffic_ns);
  }

  /// A state in or out, of which a head's CTAs read or write one, while `ctas` are at work.
  double state(double ctas) const {
    return card_.state_ns + std::min(ctas, heads_) / multiprocessors_ * card_.state_crowded_ns;
  }

  /// The larger of two times that overlap, rounded off where they are about as long.
  static double slower_of(double a, double b) {
    const double ratio = std::min(a, b) / std::max(a, b);
    return std::max(a, b) * std::pow(1 + std::pow(ratio, 8), 1.0 / 8);
  }

  /// CTAs of so many chunks each, spread evenly: alone where they can be, else two by two, round
  /// after round.
  double in_rounds(const cta_cost& cta, double ctas, double chunks) const {
    if (ctas <= multiprocessors_) {
      return of_cta(cta.alone_ns, cta.chunk_alone_ns, ctas, chunks);
    }
    const double full = 2 * multiprocessors_;
    const double rounds = rounded_down(ctas / full), rest = ctas - rounds * full;
    double ns = rounds * of_cta(cta.shared_ns, cta.chunk_shared_ns, full, chunks);
    if (rest > multiprocessors_) {
      ns += of_cta(cta.shared_ns, cta.chunk_shared_ns, rest, chunks);
    } else if (rest > 0) {
      const double paired = std::min(rest / multiprocessors_ / card_.left_in_pairs_part, 1.0) *
                            std::min(chunks / card_.left_in_pairs_chunks, 1.0);
      ns += of_cta(cta.shared_ns,
                   cta.chunk_left_ns + paired * (cta.chunk_shared_ns - cta.chunk_left_ns), rest,
                   chunks);
    }
    return ns;
  }

  const prefill_constants& card_;
  prefill_options options_;
  int states_;  // in and out
  double heads_;
  double chunks_;
  double multiprocessors_;
};

/// A card whose constants were fitted.
struct known_card {
  std::string_view name;
  int multiprocessors;
  prefill_constants constants;
};

}  // namespace based
