#include "base/random.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/digest.h"

namespace koinon {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t RotateLeft(uint64_t x, int bits) {
  return (x << bits) | (x >> (64 - bits));
}

double ToUnit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

struct NormalPair {
  double first;
  double second;
};

// 1 - u lies in (0, 1], so that the logarithm is finite.
NormalPair BoxMuller(double u, double v) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - u));
  const double angle = 2.0 * M_PI * v;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
double GammaFromOneUp(double shape, Random* random) {
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = random->NextNormal();
    const double root = 1.0 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double u = 1.0 - random->NextDouble();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

// The logarithm, because a gamma variable of a small shape underflows.
double LogGammaVariable(double shape, Random* random) {
  KOINON_CHECK(shape > 0);
  if (shape >= 1) return std::log(GammaFromOneUp(shape, random));
  const double boosted = GammaFromOneUp(shape + 1, random);
  const double u = 1.0 - random->NextDouble();
  return std::log(boosted) + std::log(u) / shape;
}

}  // namespace

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    seed += kGolden;
    word = Mix(seed);
  }
}

uint64_t Random::NextUint64() {
  const uint64_t result = RotateLeft(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = RotateLeft(state_[3], 45);
  return result;
}

uint64_t Random::NextBelow(uint64_t bound) {
  KOINON_CHECK(bound > 0);
  // Lemire, "Fast random integer generation in an interval", 2019.
  using Wide = unsigned __int128;
  const uint64_t reject_below = (0 - bound) % bound;
  while (true) {
    const Wide product = static_cast<Wide>(NextUint64()) * bound;
    if (static_cast<uint64_t>(product) >= reject_below) {
      return static_cast<uint64_t>(product >> 64);
    }
  }
}

double Random::NextDouble() { return ToUnit(NextUint64()); }

double Random::NextNormal() {
  if (has_spare_normal_) {
    has_spare_normal_ = false;
    return spare_normal_;
  }
  const double u = NextDouble();
  const double v = NextDouble();
  const NormalPair pair = BoxMuller(u, v);
  spare_normal_ = pair.second;
  has_spare_normal_ = true;
  return pair.first;
}

double Random::NextGamma(double shape) {
  return std::exp(LogGammaVariable(shape, this));
}

std::vector<double> Random::NextDirichlet(double alpha, size_t k) {
  KOINON_CHECK(k > 0);
  std::vector<double> shares(k);
  for (double& share : shares) share = LogGammaVariable(alpha, this);
  const double largest = *std::max_element(shares.begin(), shares.end());
  double sum = 0;
  for (double& share : shares) sum += share = std::exp(share - largest);
  for (double& share : shares) share /= sum;
  return shares;
}

uint64_t DeriveSeed(uint64_t parent, absl::string_view label) {
  // A cryptographic hash, because labels hold names that peers choose.
  Sha256 sha;
  uint8_t parent_bytes[8];
  for (int i = 0; i < 8; ++i) parent_bytes[i] = (parent >> (8 * i)) & 0xff;
  sha.Update(parent_bytes, sizeof(parent_bytes));
  sha.Update(label);
  const Digest digest = sha.Finish();
  uint64_t seed = 0;
  for (int i = 0; i < 8; ++i) {
    seed |= static_cast<uint64_t>(digest.bytes()[i]) << (8 * i);
  }
  return seed;
}

uint64_t DeriveSeed(uint64_t parent, uint64_t index) {
  return RandomAt(Mix(parent ^ kGolden), index);
}

uint64_t RandomAt(uint64_t seed, uint64_t index) {
  // The seed is mixed alone first: streams of neighbouring seeds are then not
  // shifted copies of one sequence.
  return Mix(Mix(seed + kGolden) ^ Mix(index * kGolden + 1));
}

double UniformAt(uint64_t seed, uint64_t index) {
  return ToUnit(RandomAt(seed, index));
}

double NormalAt(uint64_t seed, uint64_t index) {
  return BoxMuller(UniformAt(seed, 2 * index), UniformAt(seed, 2 * index + 1))
      .first;
}

}  // namespace koinon
