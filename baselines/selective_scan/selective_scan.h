// Baselines of the selective scan and of its step.
//
// "naive", on the CPU in fp32: the recurrence as it is written, a thread a channel.
#pragma once

#include "kernels/state_space/selective_scan.h"
#include "kernels/state_space/selective_scan_decode.h"
