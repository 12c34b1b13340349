#include "tools/cli/app.h"

int main(int argc, char** argv) {
  return koinon::cli::RunCommandLine(argc, argv);
}
