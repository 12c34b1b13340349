# shellcheck shell=bash
# Shared by the scripts in tools/ and .ci/: to be sourced, not run.

KOINON_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export KOINON_ROOT

# Bazel's own Java is pinned to Debian's: other Javas may come first on the PATH.
export JAVA_HOME=/usr/lib/jvm/default-java
BAZEL="${BAZEL:-/usr/bin/bazel}"

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  warn "$*"
  exit 1
}

# Runs a command as root, if need be through sudo.
as_root() {
  if [[ "$(id -u)" -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo; as root: $*"
  fi
}

# Installs the Debian packages that are missing. Quiet and quick if none is.
ensure_packages() {
  "$KOINON_ROOT/tools/setup" --quiet
}

# Where Bazel leaves what it builds in its default configuration.
bazel_bin() {
  (cd "$KOINON_ROOT" && "$BAZEL" info bazel-bin 2>/dev/null)
}
