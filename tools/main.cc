#include "base/absl_mutexes.h"
#include "tools/cli/app.h"

int main(int argc, char** argv) {
  koinon::StopSearchForDeadlocks();
  return koinon::cli::RunCommandLine(argc, argv);
}
