#include "tools/bench/swarm_bench.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/certs.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/merkle.h"
#include "tools/bench/swarm_member.h"
#include "tools/cli/process.h"

namespace koinon::bench {
namespace {

constexpr absl::Duration kStartPatience = absl::Seconds(60);
constexpr absl::Duration kPoll = absl::Milliseconds(5);
// Slower than this, for each byte and worker, is stuck.
constexpr double kSlowest = 2e6;  // bytes a second
constexpr absl::Duration kLeastPatience = absl::Seconds(60);
constexpr char kOrigin[] = "origin";
constexpr char kMill[] = "mill";
constexpr char kCopy[] = "copy";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

// A folder that is removed in the end.
class Folder {
 public:
  static absl::StatusOr<std::unique_ptr<Folder>> Make(const std::string& in) {
    std::error_code error;
    const std::string parent =
        in.empty() ? std::filesystem::temp_directory_path(error).string() : in;
    std::string path = parent + "/koinon-swarm-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat(parent, ": cannot make a folder there"));
    }
    return std::unique_ptr<Folder>(new Folder(path));
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit Folder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// The processes of one measurement.
class Fleet {
 public:
  Fleet(const std::string& program, const SwarmBenchOptions& options,
        std::string dir, int64_t size)
      : program_(program),
        options_(options),
        dir_(std::move(dir)),
        size_(size) {}

  absl::Status Start(const std::string& name, const std::string& role) {
    std::vector<std::string> argv = {program_, "bench",  "swarm-member",
                                     "--role", role,     "--dir",
                                     dir_,     "--name", name};
    if (!options_.tls) argv.push_back("--insecure");
    if (role == kOrigin && options_.kill_after_copies > 0) {
      argv.push_back("--die-after-copies");
      argv.push_back(absl::StrCat(options_.kill_after_copies));
    }
    ABSL_ASSIGN_OR_RETURN(
        processes_[name],
        cli::ChildProcess::Start(argv, absl::StrCat(dir_, "/", name, ".log")));
    return absl::OkStatus();
  }

  // Waits for the file that every process but the origin's, or all, write.
  absl::Status Await(absl::string_view suffix, bool origin_too,
                     absl::Duration patience) {
    const absl::Time until = absl::Now() + patience;
    for (const auto& [name, process] : processes_) {
      if (name == kOrigin && !origin_too) continue;
      const std::string path = absl::StrCat(dir_, "/", name, suffix);
      while (!RealEnv()->Exists(path)) {
        const auto ended = process->Poll();
        if (ended.has_value() || absl::Now() > until) {
          return absl::UnavailableError(absl::StrCat(
              name, ": no ", suffix, ": ", ended.value_or("time-out"), ": ",
              ReadAll(absl::StrCat(dir_, "/", name, ".log"))));
        }
        absl::SleepFor(kPoll);
      }
    }
    return absl::OkStatus();
  }

  absl::Status AwaitResults() {
    const double bytes =
        static_cast<double>(size_) * static_cast<double>(options_.workers);
    return Await(".result", /*origin_too=*/false,
                 kLeastPatience + absl::Seconds(bytes / kSlowest));
  }

  // Says who is where, and waits until all have connected.
  absl::Status Introduce() {
    SwarmFile peers;
    for (const auto& [name, process] : processes_) {
      ABSL_ASSIGN_OR_RETURN(
          const SwarmFile contact,
          ReadSwarmFile(absl::StrCat(dir_, "/", name, ".contact")));
      peers[name] = absl::StrCat(contact.at("id"), " ", contact.at("address"));
    }
    ABSL_RETURN_IF_ERROR(WriteSwarmFile(dir_ + "/peers", peers));
    return Await(".ready", /*origin_too=*/false, kStartPatience);
  }

  // The time at which they began.
  absl::StatusOr<int64_t> Go() {
    const int64_t now = MonotonicNanoseconds();
    ABSL_RETURN_IF_ERROR(WriteSwarmFile(dir_ + "/go", {}));
    return now;
  }

  // That all have used so far.
  double CpuSeconds() const {
    double seconds = 0;
    for (const auto& [name, process] : processes_) {
      // After the name in brackets: utime and stime are the 12th and 13th.
      const std::string stat =
          ReadAll(absl::StrCat("/proc/", process->pid(), "/stat"));
      const std::vector<std::string> fields =
          absl::StrSplit(stat.substr(stat.rfind(')') + 1), ' ');
      double user = 0, system = 0;
      if (fields.size() > 13 && absl::SimpleAtod(fields[12], &user) &&
          absl::SimpleAtod(fields[13], &system)) {
        seconds += (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
      }
    }
    return seconds;
  }

  absl::StatusOr<std::map<std::string, SwarmFile>> Results() const {
    std::map<std::string, SwarmFile> results;
    for (const auto& [name, process] : processes_) {
      if (name == kOrigin) continue;
      ABSL_ASSIGN_OR_RETURN(results[name], ReadSwarmFile(absl::StrCat(
                                               dir_, "/", name, ".result")));
      if (results[name]["error"].empty()) continue;
      return absl::UnavailableError(
          absl::StrCat(name, ": ", results[name]["error"]));
    }
    return results;
  }

 private:
  const std::string program_;
  const SwarmBenchOptions& options_;
  const std::string dir_;
  const int64_t size_;
  std::map<std::string, std::unique_ptr<cli::ChildProcess>> processes_;
};

double Number(const SwarmFile& file, const std::string& key) {
  double number = 0;
  const auto it = file.find(key);
  if (it == file.end() || !absl::SimpleAtod(it->second, &number)) return 0;
  return number;
}

std::string WorkerName(size_t i) { return absl::StrFormat("worker-%04d", i); }

absl::Status MakeCertificates(const std::string& dir, size_t workers) {
  const absl::Time now = absl::Now();
  ABSL_ASSIGN_OR_RETURN(const CertificateAndKey ca,
                        MakeCertificateAuthority(kSwarmFederation, 2, now));
  ABSL_RETURN_IF_ERROR(
      WriteFileAtomically(RealEnv(), dir + "/ca.pem", ca.certificate_pem));
  for (size_t i = 0; i <= workers; ++i) {
    CertificateSubject subject{.name = i == 0 ? kOrigin : WorkerName(i)};
    if (i == 0) {
      subject.role = PeerIdentity::Role::kServer;
      subject.ip_addresses = {"127.0.0.1"};
    }
    ABSL_ASSIGN_OR_RETURN(const CertificateAndKey issued,
                          IssueCertificate(ca, subject, 1, now));
    const TlsFiles files = SwarmTlsFiles(dir, subject.name);
    ABSL_RETURN_IF_ERROR(WriteFileAtomically(RealEnv(), files.certificate,
                                             issued.certificate_pem));
    ABSL_RETURN_IF_ERROR(
        WritePrivateFileAtomically(RealEnv(), files.key, issued.key_pem));
  }
  return absl::OkStatus();
}

// DIR/model, its leaves and its description. Its digest.
absl::StatusOr<Digest> MakeContent(const std::string& dir, int64_t size,
                                   uint64_t seed) {
  constexpr int64_t kPart = 1 << 20;
  ABSL_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      RealEnv()->Open(dir + "/model", Env::OpenMode::kCreate));
  Random random(seed);
  dht::MerkleBuilder builder;
  Sha256 sha;
  std::vector<uint64_t> part(kPart / sizeof(uint64_t));
  for (int64_t at = 0; at < size; at += kPart) {
    for (uint64_t& word : part) word = random.NextUint64();
    const size_t bytes = static_cast<size_t>(std::min(kPart, size - at));
    ABSL_RETURN_IF_ERROR(file->WriteAt(at, part.data(), bytes));
    builder.Append(part.data(), bytes);
    sha.Update(part.data(), bytes);
  }
  const dht::MerkleTree tree =
      dht::TreeOf(builder.Finish(), size, dht::PieceSizeFor(size));
  ABSL_RETURN_IF_ERROR(
      dht::ContentFile::WriteLeaves(RealEnv(), dir + "/leaves", tree.leaves));
  ABSL_RETURN_IF_ERROR(WriteFileAtomically(RealEnv(), dir + "/content",
                                           tree.content.SerializeAsString()));
  return sha.Finish();
}

absl::Status CheckFile(const std::string& path, int64_t size,
                       const Digest& expected) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        RealEnv()->Open(path, Env::OpenMode::kRead));
  Sha256 sha;
  std::string part(1 << 20, '\0');
  for (int64_t at = 0; at < size; at += static_cast<int64_t>(part.size())) {
    const size_t bytes = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(part.size()), size - at));
    ABSL_RETURN_IF_ERROR(file->ReadAt(at, bytes, part.data()));
    sha.Update(part.data(), bytes);
  }
  if (sha.Finish() == expected) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat(path, ": a worker has other bytes than the origin"));
}

// Seconds from the word to go to the last that has finished.
double LastOf(const std::map<std::string, SwarmFile>& results, int64_t go) {
  double last = 0;
  for (const auto& [name, result] : results) {
    last = std::max(last, Number(result, "finished_ns"));
  }
  return (last - static_cast<double>(go)) / 1e9;
}

// What the files of one measurement say must not be taken for another's; and
// there may be no room for the copies of both.
void RemoveTraces(const std::string& dir) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    const std::string extension = entry.path().extension();
    const std::string name = entry.path().filename();
    if (extension == ".contact" || extension == ".ready" ||
        extension == ".result" || extension == ".copy" || name == "peers" ||
        name == "go") {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

// As many bytes between as many processes, as plain streams.
struct Streams {
  double seconds = 0;
  double cpu_seconds = 0;
};

// `role`: "mill" or "copy". Its copies are compared with the content.
absl::StatusOr<Streams> MeasureStreams(const std::string& program,
                                       const SwarmBenchOptions& options,
                                       const std::string& role,
                                       const std::string& dir, int64_t size,
                                       const Digest& digest) {
  Fleet fleet(program, options, dir, size);
  for (size_t i = 1; i <= options.workers; ++i) {
    ABSL_RETURN_IF_ERROR(fleet.Start(WorkerName(i), role));
  }
  ABSL_RETURN_IF_ERROR(fleet.Await(".contact", true, kStartPatience));
  ABSL_RETURN_IF_ERROR(fleet.Introduce());
  const double cpu = fleet.CpuSeconds();
  ABSL_ASSIGN_OR_RETURN(const int64_t go, fleet.Go());
  ABSL_RETURN_IF_ERROR(fleet.AwaitResults());
  ABSL_ASSIGN_OR_RETURN(const auto results, fleet.Results());
  const Streams streams{.seconds = LastOf(results, go),
                        .cpu_seconds = fleet.CpuSeconds() - cpu};
  if (role == kCopy) {
    for (const auto& [name, result] : results) {
      ABSL_RETURN_IF_ERROR(
          CheckFile(absl::StrCat(dir, "/", name, ".copy"), size, digest));
    }
  }
  RemoveTraces(dir);
  return streams;
}

absl::StatusOr<SwarmBenchFigure> MeasureOne(const std::string& program,
                                            const SwarmBenchOptions& options,
                                            int64_t size) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<Folder> folder,
                        Folder::Make(options.dir));
  const std::string& dir = folder->path();
  if (options.tls) {
    ABSL_RETURN_IF_ERROR(MakeCertificates(dir, options.workers));
  }
  ABSL_ASSIGN_OR_RETURN(const Digest digest,
                        MakeContent(dir, size, options.seed));
  SwarmBenchFigure figure{
      .size_bytes = size, .workers = options.workers, .tls = options.tls};
  ABSL_ASSIGN_OR_RETURN(
      const Streams loopback,
      MeasureStreams(program, options, kMill, dir, size, digest));
  ABSL_ASSIGN_OR_RETURN(
      const Streams copy,
      MeasureStreams(program, options, kCopy, dir, size, digest));

  Fleet fleet(program, options, dir, size);
  ABSL_RETURN_IF_ERROR(fleet.Start(kOrigin, kOrigin));
  for (size_t i = 1; i <= options.workers; ++i) {
    ABSL_RETURN_IF_ERROR(fleet.Start(WorkerName(i), "worker"));
  }
  ABSL_RETURN_IF_ERROR(fleet.Await(".contact", true, kStartPatience));
  ABSL_RETURN_IF_ERROR(fleet.Introduce());
  const double cpu = fleet.CpuSeconds();
  ABSL_ASSIGN_OR_RETURN(const int64_t go, fleet.Go());
  ABSL_RETURN_IF_ERROR(fleet.AwaitResults());
  ABSL_ASSIGN_OR_RETURN(const auto results, fleet.Results());
  figure.cpu_seconds = fleet.CpuSeconds() - cpu;
  figure.seconds = LastOf(results, go);
  figure.loopback_seconds = loopback.seconds;
  figure.loopback_cpu_seconds = loopback.cpu_seconds;
  figure.ratio = figure.seconds / loopback.seconds;
  figure.copy_seconds = copy.seconds;
  figure.copy_cpu_seconds = copy.cpu_seconds;
  figure.copy_ratio = figure.seconds / copy.seconds;
  for (const auto& [name, result] : results) {
    const double content = static_cast<double>(size);
    figure.origin_copies += Number(result, "from_origin") / content;
    figure.wasted_copies += Number(result, "wasted") / content;
    figure.memory_mib =
        std::max(figure.memory_mib, Number(result, "memory_mib"));
    ABSL_RETURN_IF_ERROR(
        CheckFile(absl::StrCat(dir, "/", name, ".partial"), size, digest));
  }
  // What the origin says of itself counts too: not all of it has arrived.
  if (const auto sent = ReadSwarmFile(dir + "/origin.sent"); sent.ok()) {
    figure.origin_copies =
        std::max(figure.origin_copies,
                 Number(*sent, "bytes") / static_cast<double>(size));
  }
  return figure;
}

}  // namespace

absl::StatusOr<std::vector<SwarmBenchFigure>> MeasureSwarm(
    const std::string& program, const SwarmBenchOptions& options) {
  std::vector<SwarmBenchFigure> figures;
  for (const int64_t size : options.sizes) {
    ABSL_ASSIGN_OR_RETURN(SwarmBenchFigure figure,
                          MeasureOne(program, options, size));
    figures.push_back(figure);
  }
  return figures;
}

std::string SwarmBenchTable(const std::vector<SwarmBenchFigure>& figures) {
  std::string table = absl::StrFormat(
      "%8s %8s %10s | %8s | %9s %6s | %8s %6s | %8s %9s %8s | %14s %8s %11s\n",
      "size MB", "workers", "transport", "seconds", "loopback", "ratio", "copy",
      "ratio", "CPU s", "loopback", "copy", "origin copies", "wasted",
      "memory MiB");
  for (const SwarmBenchFigure& f : figures) {
    absl::StrAppendFormat(
        &table,
        "%8.0f %8d %10s | %8.2f | %9.2f %6.2f | %8.2f %6.2f | %8.1f %9.1f "
        "%8.1f | %14.3f %8.3f %11.1f\n",
        static_cast<double>(f.size_bytes) / 1e6, f.workers,
        f.tls ? "mutual TLS" : "plaintext", f.seconds, f.loopback_seconds,
        f.ratio, f.copy_seconds, f.copy_ratio, f.cpu_seconds,
        f.loopback_cpu_seconds, f.copy_cpu_seconds, f.origin_copies,
        f.wasted_copies, f.memory_mib);
  }
  return table;
}

std::string SwarmBenchJson(const std::vector<SwarmBenchFigure>& figures) {
  std::vector<std::string> rows;
  for (const SwarmBenchFigure& f : figures) {
    rows.push_back(absl::StrFormat(
        R"({"size_bytes":%d,"workers":%d,"tls":%s,"seconds":%g,)"
        R"("loopback_seconds":%g,"ratio":%g,"copy_seconds":%g,)"
        R"("copy_ratio":%g,"cpu_seconds":%g,"loopback_cpu_seconds":%g,)"
        R"("copy_cpu_seconds":%g,"origin_copies":%g,)"
        R"("wasted_copies":%g,"memory_mib":%g})",
        f.size_bytes, f.workers, f.tls ? "true" : "false", f.seconds,
        f.loopback_seconds, f.ratio, f.copy_seconds, f.copy_ratio,
        f.cpu_seconds, f.loopback_cpu_seconds, f.copy_cpu_seconds,
        f.origin_copies, f.wasted_copies, f.memory_mib));
  }
  return absl::StrCat("[", absl::StrJoin(rows, ",\n "), "]\n");
}

}  // namespace koinon::bench
