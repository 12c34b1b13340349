#ifndef KOINON_COORDINATOR_JOURNAL_SQLITE_DATABASE_H_
#define KOINON_COORDINATOR_JOURNAL_SQLITE_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace koinon::coordinator {

// One prepared statement. Lives no longer than its database. Not thread-safe.
//
//   statement.BindText(1, name);
//   ABSL_ASSIGN_OR_RETURN(bool row, statement.Step());
//   if (row) use(statement.Int(0));
//   statement.Reset();
class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  // Parameters count from 1. Text and blobs are copied. An error shows in Step.
  void BindInt(int index, int64_t value);
  void BindText(int index, absl::string_view value);
  void BindBlob(int index, absl::string_view value);
  void BindNull(int index);

  // True: there is a row; false: done. On an error the statement is reset.
  absl::StatusOr<bool> Step();
  // Makes it ready for other parameters.
  void Reset();
  // Steps to the end and resets.
  absl::Status Run();

  // Columns of the row, from 0.
  int64_t Int(int column) const;
  std::string Bytes(int column) const;  // text or blob
  bool IsNull(int column) const;

 private:
  friend class Database;
  Statement(class Database* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}
  void Keep(int code);

  class Database* database_ = nullptr;
  sqlite3_stmt* statement_ = nullptr;
  int bind_error_ = 0;
};

// One SQLite connection. Errors name the file and carry these codes:
// RESOURCE_EXHAUSTED if the disk or the configured bound is full; DATA_LOSS if
// the file is corrupt, no database, or fails to be read or written; UNAVAILABLE
// if another process holds it for longer than the busy time-out;
// INVALID_ARGUMENT for a row that breaks a constraint; FAILED_PRECONDITION or
// PERMISSION_DENIED if it cannot be opened. Not thread-safe.
class Database {
 public:
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const std::string& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Statements without parameters; results are dropped.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<Statement> Prepare(absl::string_view sql);
  // The first column of the only row.
  absl::StatusOr<int64_t> QueryInt(absl::string_view sql);
  absl::StatusOr<std::string> QueryText(absl::string_view sql);

  bool InTransaction() const;
  int64_t ChangedRows() const;  // by the last statement
  // Whether closing the last connection folds the write-ahead log into the
  // database; without, closing leaves the files as they are.
  void SetCheckpointOnClose(bool checkpoint);

  absl::Status ErrorOf(int code) const;
  const std::string& path() const { return path_; }

 private:
  Database(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}

  const std::string path_;
  sqlite3* const db_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_SQLITE_DATABASE_H_
