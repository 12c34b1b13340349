#include "coordinator/jobs/training_spec.h"

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "coordinator/jobs/field_check.h"

namespace koinon::coordinator {
namespace {

// Bounds: generous, so that only slips and attacks meet them.
constexpr double kMaxEpochs = 10'000;
constexpr int64_t kMaxSteps = 1'000'000'000;
constexpr int64_t kMaxBatchSize = 1 << 20;
constexpr double kMaxLearningRate = 1'000;
constexpr double kMaxWeight = 1'000'000;  // weight decay, mu, norms
constexpr int kMaxParameters = 64;
constexpr size_t kMaxParameterName = 64;
constexpr size_t kMaxParameterValue = 4096;

// What the zero of a field stands for.
constexpr double kSgdLearningRate = 0.1;
constexpr double kAdamLearningRate = 0.001;
constexpr double kAdamBeta1 = 0.9;
constexpr double kAdamBeta2 = 0.999;
constexpr double kAdamEpsilon = 1e-8;
constexpr int64_t kBatchSize = 32;

absl::Status CompleteLength(v1::TrainingSpec* training) {
  if (training->epochs() != 0 && training->steps() != 0) {
    return FieldConflict(
        "training.epochs",
        absl::StrCat("is ", training->epochs(), " and training.steps is ",
                     training->steps(), "; set one of the two"));
  }
  if (training->epochs() == 0 && training->steps() == 0) {
    training->set_epochs(1);
  }
  ABSL_RETURN_IF_ERROR(
      CheckNumber("training.epochs", training->epochs(), {0, kMaxEpochs}));
  ABSL_RETURN_IF_ERROR(
      CheckInteger("training.steps", training->steps(), 0, kMaxSteps));
  if (training->batch_size() == 0) training->set_batch_size(kBatchSize);
  return CheckInteger("training.batch_size", training->batch_size(), 1,
                      kMaxBatchSize);
}

absl::Status CompleteSgd(v1::Optimizer::Sgd* sgd) {
  if (sgd->learning_rate() == 0) sgd->set_learning_rate(kSgdLearningRate);
  ABSL_RETURN_IF_ERROR(CheckNumber("training.optimizer.sgd.learning_rate",
                                   sgd->learning_rate(),
                                   {0, kMaxLearningRate, /*low_open=*/true}));
  ABSL_RETURN_IF_ERROR(CheckNumber("training.optimizer.sgd.momentum",
                                   sgd->momentum(),
                                   {0, 1, false, /*high_open=*/true}));
  if (sgd->nesterov() && sgd->momentum() == 0) {
    return FieldConflict(
        "training.optimizer.sgd.nesterov",
        "is set, but has no effect without training.optimizer.sgd.momentum");
  }
  return CheckNumber("training.optimizer.sgd.weight_decay", sgd->weight_decay(),
                     {0, kMaxWeight});
}

absl::Status CompleteAdam(const std::string& name, v1::Optimizer::Adam* adam) {
  const std::string field = absl::StrCat("training.optimizer.", name, ".");
  if (adam->learning_rate() == 0) adam->set_learning_rate(kAdamLearningRate);
  if (adam->beta1() == 0) adam->set_beta1(kAdamBeta1);
  if (adam->beta2() == 0) adam->set_beta2(kAdamBeta2);
  if (adam->epsilon() == 0) adam->set_epsilon(kAdamEpsilon);
  ABSL_RETURN_IF_ERROR(CheckNumber(field + "learning_rate",
                                   adam->learning_rate(),
                                   {0, kMaxLearningRate, true}));
  ABSL_RETURN_IF_ERROR(
      CheckNumber(field + "beta1", adam->beta1(), {0, 1, true, true}));
  ABSL_RETURN_IF_ERROR(
      CheckNumber(field + "beta2", adam->beta2(), {0, 1, true, true}));
  ABSL_RETURN_IF_ERROR(
      CheckNumber(field + "epsilon", adam->epsilon(), {0, 1, true}));
  return CheckNumber(field + "weight_decay", adam->weight_decay(),
                     {0, kMaxWeight});
}

absl::Status CompleteOptimizer(v1::Optimizer* optimizer) {
  switch (optimizer->kind_case()) {
    case v1::Optimizer::KIND_NOT_SET:  // the default
    case v1::Optimizer::kSgd:
      return CompleteSgd(optimizer->mutable_sgd());
    case v1::Optimizer::kAdam:
      return CompleteAdam("adam", optimizer->mutable_adam());
    case v1::Optimizer::kAdamw:
      return CompleteAdam("adamw", optimizer->mutable_adamw());
  }
  return FieldError("training.optimizer",
                    absl::StrCat("number ", optimizer->kind_case()),
                    "one of sgd, adam, adamw");
}

absl::Status CompleteSchedule(v1::LearningRateSchedule* schedule) {
  ABSL_RETURN_IF_ERROR(CheckInteger("training.schedule.warmup_steps",
                                    schedule->warmup_steps(), 0, kMaxSteps));
  switch (schedule->kind_case()) {
    case v1::LearningRateSchedule::KIND_NOT_SET:  // the default
    case v1::LearningRateSchedule::kConstant:
      schedule->mutable_constant();
      return absl::OkStatus();
    case v1::LearningRateSchedule::kStep:
      ABSL_RETURN_IF_ERROR(CheckInteger("training.schedule.step.every",
                                        schedule->step().every(), 1,
                                        kMaxSteps));
      return CheckNumber("training.schedule.step.factor",
                         schedule->step().factor(), {0, 1, true});
    case v1::LearningRateSchedule::kCosine:
      ABSL_RETURN_IF_ERROR(CheckInteger("training.schedule.cosine.steps",
                                        schedule->cosine().steps(), 1,
                                        kMaxSteps));
      return CheckNumber("training.schedule.cosine.final_factor",
                         schedule->cosine().final_factor(), {0, 1});
  }
  return FieldError("training.schedule",
                    absl::StrCat("number ", schedule->kind_case()),
                    "one of constant, step, cosine");
}

absl::Status CompleteLoss(v1::TrainingSpec* training) {
  switch (training->loss()) {
    case v1::TrainingSpec::LOSS_UNSPECIFIED:  // the default
      training->set_loss(v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY);
      return absl::OkStatus();
    case v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY:
    case v1::TrainingSpec::MEAN_SQUARED_ERROR:
      return absl::OkStatus();
    default:
      return FieldError(
          "training.loss",
          absl::StrCat("number ", static_cast<int>(training->loss())),
          "one of SOFTMAX_CROSS_ENTROPY, MEAN_SQUARED_ERROR");
  }
}

absl::Status CompletePrecision(v1::TrainingSpec* training) {
  switch (training->precision()) {
    case v1::TrainingSpec::PRECISION_UNSPECIFIED:  // the default
      training->set_precision(v1::TrainingSpec::FLOAT32);
      return absl::OkStatus();
    case v1::TrainingSpec::FLOAT32:
    case v1::TrainingSpec::BFLOAT16:
    case v1::TrainingSpec::BFLOAT16_OR_FLOAT32:
      return absl::OkStatus();
    default:
      return FieldError(
          "training.precision",
          absl::StrCat("number ", static_cast<int>(training->precision())),
          "one of FLOAT32, BFLOAT16, BFLOAT16_OR_FLOAT32");
  }
}

absl::Status CheckExternalTrainer(const v1::TrainingSpec& training) {
  if (training.external_trainer().empty()) {
    if (training.parameters().empty()) return absl::OkStatus();
    return FieldConflict("training.parameters",
                         "are for an external trainer, but "
                         "training.external_trainer names none");
  }
  ABSL_RETURN_IF_ERROR(
      InField("training.external_trainer",
              ValidateId("external trainer", training.external_trainer())));
  if (training.parameters().size() > kMaxParameters) {
    return FieldError("training.parameters",
                      absl::StrCat(training.parameters().size(), " entries"),
                      absl::StrCat("at most ", kMaxParameters));
  }
  for (const auto& [name, value] : training.parameters()) {
    if (name.empty() || name.size() > kMaxParameterName) {
      return FieldError(
          "training.parameters",
          absl::StrCat("a map with the name ", Quoted(name), " of ",
                       name.size(), " bytes"),
          absl::StrCat("names of 1 to ", kMaxParameterName, " bytes"));
    }
    if (value.size() > kMaxParameterValue) {
      return FieldError(absl::StrCat("training.parameters[", Quoted(name), "]"),
                        absl::StrCat(value.size(), " bytes long"),
                        absl::StrCat("at most ", kMaxParameterValue, " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CompleteTrainingSpec(v1::TrainingSpec* training) {
  ABSL_RETURN_IF_ERROR(CompleteLength(training));
  ABSL_RETURN_IF_ERROR(CompleteOptimizer(training->mutable_optimizer()));
  ABSL_RETURN_IF_ERROR(CompleteSchedule(training->mutable_schedule()));
  ABSL_RETURN_IF_ERROR(CompleteLoss(training));
  ABSL_RETURN_IF_ERROR(CompletePrecision(training));
  ABSL_RETURN_IF_ERROR(CheckInteger("training.site_steps",
                                    training->site_steps(), 0, kMaxSteps));
  ABSL_RETURN_IF_ERROR(CheckNumber("training.proximal_mu",
                                   training->proximal_mu(), {0, kMaxWeight}));
  ABSL_RETURN_IF_ERROR(CheckNumber("training.clip_norm", training->clip_norm(),
                                   {0, kMaxWeight}));
  return CheckExternalTrainer(*training);
}

}  // namespace koinon::coordinator
