// The GPU's clock, power, temperature and throttle reasons while a row runs, through NVML where the
// driver has it. Loaded at run time: the binary starts without a driver.
#pragma once

#include <memory>
#include <string>

#include "benchmarks/harness/backend.h"

namespace based {

class nvml_sampler {
 public:
  /// Of the GPU with this PCI bus id; null where NVML is absent or does not know it.
  static std::unique_ptr<nvml_sampler> open(const std::string& pci_bus_id);
  virtual ~nvml_sampler() = default;

  virtual std::string driver_version() = 0;
  /// Polls from a thread of its own until stop(), which returns the medians.
  virtual void start() = 0;
  virtual telemetry stop() = 0;
};

}  // namespace based
