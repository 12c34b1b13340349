#include "aggregation/attacks/attacks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

using Vector = std::vector<float>;
using Vectors = std::vector<Vector>;

constexpr AttackKind kAll[] = {
    AttackKind::kSignFlip,        AttackKind::kScaling,
    AttackKind::kGaussianNoise,   AttackKind::kInnerProduct,
    AttackKind::kALittleIsEnough, AttackKind::kMimic};

// An attacker may send any finite number, and no other.
float ToFinite(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMax, kMax));
}

std::vector<double> Mean(absl::Span<const Vector> rows) {
  std::vector<double> mean(rows[0].size());
  for (const Vector& row : rows) {
    for (size_t j = 0; j < row.size(); ++j) mean[j] += row[j];
  }
  for (double& x : mean) x /= static_cast<double>(rows.size());
  return mean;
}

Vector ScaledMean(absl::Span<const Vector> honest, double factor) {
  Vector scaled;
  for (double x : Mean(honest)) scaled.push_back(ToFinite(factor * x));
  return scaled;
}

Vectors Noise(size_t elements, size_t f, uint64_t seed, double stddev) {
  Vectors noise(f, Vector(elements));
  for (size_t i = 0; i < f; ++i) {
    Random random(DeriveSeed(seed, i));
    for (float& x : noise[i]) x = ToFinite(stddev * random.NextNormal());
  }
  return noise;
}

// z with Phi(z) = p, by bisection.
double NormalQuantile(double p) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
  }
  return low;
}

// The attackers need s = floor(n/2 + 1) - f honest workers to look further out
// than themselves.
double LargestHiddenShift(size_t honest, size_t f) {
  const double n = static_cast<double>(honest + f);
  const double supporters = std::floor(n / 2 + 1) - static_cast<double>(f);
  const double good = static_cast<double>(honest);
  return std::max(0.0, NormalQuantile((good - supporters) / good));
}

Vector ShiftedMean(absl::Span<const Vector> honest, double shift) {
  const std::vector<double> mean = Mean(honest);
  Vector shifted;
  for (size_t j = 0; j < mean.size(); ++j) {
    double variance = 0;
    for (const Vector& row : honest) {
      variance += (row[j] - mean[j]) * (row[j] - mean[j]);
    }
    variance /= static_cast<double>(honest.size());
    shifted.push_back(ToFinite(mean[j] - shift * std::sqrt(variance)));
  }
  return shifted;
}

// (row - mean) . direction
double Along(const Vector& row, const std::vector<double>& mean,
             const std::vector<double>& direction) {
  double dot = 0;
  for (size_t j = 0; j < row.size(); ++j) {
    dot += (row[j] - mean[j]) * direction[j];
  }
  return dot;
}

// False if all rows are equal.
bool Normalise(std::vector<double>* direction) {
  double square = 0;
  for (double x : *direction) square += x * x;
  if (square == 0) return false;
  for (double& x : *direction) x /= std::sqrt(square);
  return true;
}

const Vector& FurthestOut(absl::Span<const Vector> honest, uint64_t seed) {
  constexpr int kPowerIterations = 20;
  const std::vector<double> mean = Mean(honest);
  Random random(seed);
  std::vector<double> direction(mean.size());
  for (double& x : direction) x = random.NextNormal();
  for (int i = 0; i < kPowerIterations; ++i) {
    if (!Normalise(&direction)) break;
    std::vector<double> next(mean.size());
    for (const Vector& row : honest) {
      const double along = Along(row, mean, direction);
      for (size_t j = 0; j < row.size(); ++j) {
        next[j] += along * (row[j] - mean[j]);
      }
    }
    direction = std::move(next);
  }
  return *std::max_element(honest.begin(), honest.end(),
                           [&](const Vector& a, const Vector& b) {
                             return std::fabs(Along(a, mean, direction)) <
                                    std::fabs(Along(b, mean, direction));
                           });
}

double DefaultStrength(AttackKind kind, size_t honest, size_t f) {
  switch (kind) {
    case AttackKind::kSignFlip:
      return 4;
    case AttackKind::kScaling:
      return 1000;
    case AttackKind::kGaussianNoise:
      return 200;
    case AttackKind::kInnerProduct:
      return 0.1;
    case AttackKind::kALittleIsEnough:
      return LargestHiddenShift(honest, f);
    case AttackKind::kMimic:
      return 0;
  }
  return 0;
}

}  // namespace

absl::Span<const AttackKind> AllAttacks() { return kAll; }

absl::string_view AttackName(AttackKind kind) {
  switch (kind) {
    case AttackKind::kSignFlip:
      return "sign_flip";
    case AttackKind::kScaling:
      return "scaling";
    case AttackKind::kGaussianNoise:
      return "gaussian_noise";
    case AttackKind::kInnerProduct:
      return "inner_product";
    case AttackKind::kALittleIsEnough:
      return "a_little_is_enough";
    case AttackKind::kMimic:
      return "mimic";
  }
  return "unknown";
}

absl::StatusOr<AttackKind> AttackFromName(absl::string_view name) {
  std::string known;
  for (AttackKind kind : kAll) {
    if (AttackName(kind) == name) return kind;
    absl::StrAppend(&known, known.empty() ? "" : ", ", AttackName(kind));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("attack \"", name, "\", expected one of ", known));
}

std::vector<std::vector<float>> Attack(
    AttackKind kind, absl::Span<const std::vector<float>> honest, size_t f,
    uint64_t seed, double strength) {
  KOINON_CHECK(!honest.empty());
  if (strength == 0) strength = DefaultStrength(kind, honest.size(), f);
  switch (kind) {
    case AttackKind::kSignFlip:
    case AttackKind::kInnerProduct:
      return Vectors(f, ScaledMean(honest, -strength));
    case AttackKind::kScaling:
      return Vectors(f, ScaledMean(honest, strength));
    case AttackKind::kGaussianNoise:
      return Noise(honest[0].size(), f, seed, strength);
    case AttackKind::kALittleIsEnough:
      return Vectors(f, ShiftedMean(honest, strength));
    case AttackKind::kMimic:
      return Vectors(f, FurthestOut(honest, seed));
  }
  return {};
}

}  // namespace koinon::aggregation
