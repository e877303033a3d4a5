// What a model is run on.
#pragma once

#include <cstdint>

namespace based::models {

struct sequences {
  std::int64_t batch, seqlen;
  bool leaves_states = false;  ///< for tokens that are to follow
  bool continues = false;      ///< one token a sequence, from the states that were left: a step

  std::int64_t tokens() const { return batch * seqlen; }
};

}  // namespace based::models
