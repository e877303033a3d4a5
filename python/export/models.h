// What the package's models need beside the operations: sizes, and a checkpoint's weights. A model
// is a name of configuration.h or a folder of checkpoint.h.
#pragma once

#include <dlpack/dlpack.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>

#include <cstdint>

namespace based::python {

/// name, vocabulary, the value "axis" of the operations' axis "model"; elements of the buffers of
/// weights, "matrices" and "others", and of states, "recurrent" and "cached", where caches have so
/// many slots.
tvm::ffi::Map<tvm::ffi::String, tvm::ffi::Any> model_sizes(const tvm::ffi::String& model,
                                                           std::int64_t batch, std::int64_t slots);

/// Where the weights lie: a map for each tensor of weights.h, with its key, its shape in the
/// buffer, "buffer" ("matrices" or "others"), offset, and "form" ("as_stored", "taps_first",
/// "negative_exponential").
tvm::ffi::Array<tvm::ffi::Map<tvm::ffi::String, tvm::ffi::Any>> model_weights(
    const tvm::ffi::String& model);

/// The sizes of a model by their names in config.json (checkpoint.h), mixers as a list of names.
tvm::ffi::Map<tvm::ffi::String, tvm::ffi::Any> model_configuration(const tvm::ffi::String& model);

/// Writes a checkpoint's weights: matrices as float32 or bfloat16, others as float32, flat arrays
/// on the CPU.
void read_checkpoint(const tvm::ffi::String& folder, DLTensor* matrices, DLTensor* others);

/// The next token of each row of logits [batch, vocabulary], float32, as choose_args of
/// glue/decode.h has it: ids [batch], int32, and positions, int32 too, which are counted on.
/// Tensors of one device without gaps; on CUDA enqueued on the framework's current stream.
void choose_tokens(DLTensor* logits, DLTensor* positions, DLTensor* ids, double temperature,
                   std::int64_t top_k, std::int64_t seed);

}  // namespace based::python
