#include "base/absl_mutexes.h"
#include "base/descriptor_limit.h"
#include "tools/cli/app.h"

int main(int argc, char** argv) {
  koinon::StopSearchForDeadlocks();
  koinon::RaiseDescriptorLimit();
  return koinon::cli::RunCommandLine(argc, argv);
}
