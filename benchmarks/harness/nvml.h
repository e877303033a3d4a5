// The GPU's clock, power, temperature and throttle reasons while a row runs, through NVML where the
// driver has it. Loaded at run time: the binary starts without a driver.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "benchmarks/harness/backend.h"

namespace based {

class nvml_sampler {
 public:
  /// A sampler of the GPU with this PCI bus id; null if NVML is absent or does not know it. Call it
  /// before this process uses the GPU: in a container NVML names processes by other numbers than
  /// the process itself sees, and its own is the one that appears between this and start().
  static std::unique_ptr<nvml_sampler> open(const std::string& pci_bus_id);
  virtual ~nvml_sampler() = default;

  virtual std::string driver_version() = 0;
  /// The GPU's energy in joules since the driver was loaded; none where it is not counted.
  virtual std::optional<double> energy_j() = 0;
  /// Polls from a thread of its own until stop(), which returns the medians.
  virtual void start() = 0;
  virtual void restart() = 0;  ///< forgets the readings since start()
  virtual telemetry stop() = 0;
};

}  // namespace based
