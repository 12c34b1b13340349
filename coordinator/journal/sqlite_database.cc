#include "coordinator/journal/sqlite_database.h"

#include <sqlite3.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

// How long a statement waits for another process's lock, such as that of an
// operator who looks at the journal.
constexpr int kBusyTimeoutMs = 5000;

absl::StatusCode CodeOf(int code, int system_error) {
  switch (code & 0xFF) {
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_IOERR:
      // A sync that fails is never harmless; a file that could not grow is.
      return code != SQLITE_IOERR_FSYNC && code != SQLITE_IOERR_DIR_FSYNC &&
                     system_error == ENOSPC
                 ? absl::StatusCode::kResourceExhausted
                 : absl::StatusCode::kDataLoss;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_CONSTRAINT:
      return absl::StatusCode::kInvalidArgument;
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kFailedPrecondition;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

Statement::Statement(Statement&& other) noexcept { *this = std::move(other); }

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(database_, other.database_);
  std::swap(statement_, other.statement_);
  std::swap(bind_error_, other.bind_error_);
  return *this;
}

Statement::~Statement() { sqlite3_finalize(statement_); }

void Statement::Keep(int code) {
  if (code != SQLITE_OK && bind_error_ == SQLITE_OK) bind_error_ = code;
}

void Statement::BindInt(int index, int64_t value) {
  Keep(sqlite3_bind_int64(statement_, index, value));
}

void Statement::BindText(int index, absl::string_view value) {
  Keep(sqlite3_bind_text64(statement_, index, value.data(), value.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Statement::BindBlob(int index, absl::string_view value) {
  // A null pointer would bind NULL in place of an empty blob.
  Keep(sqlite3_bind_blob64(statement_, index, value.empty() ? "" : value.data(),
                           value.size(), SQLITE_TRANSIENT));
}

void Statement::BindNull(int index) {
  Keep(sqlite3_bind_null(statement_, index));
}

absl::StatusOr<bool> Statement::Step() {
  const int code =
      bind_error_ != SQLITE_OK ? bind_error_ : sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  absl::Status error = database_->ErrorOf(code);
  Reset();
  return error;
}

void Statement::Reset() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  bind_error_ = SQLITE_OK;
}

absl::Status Statement::Run() {
  while (true) {
    ABSL_ASSIGN_OR_RETURN(const bool row, Step());
    if (!row) break;
  }
  Reset();
  return absl::OkStatus();
}

int64_t Statement::Int(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string Statement::Bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr) return "";
  return std::string(static_cast<const char*>(data), size);
}

bool Statement::IsNull(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const std::string& path) {
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                          SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                      nullptr);
  // Even a connection that failed to open has to be closed.
  std::unique_ptr<Database> database(new Database(path, db));
  if (code != SQLITE_OK) return database->ErrorOf(code);
  sqlite3_busy_timeout(db, kBusyTimeoutMs);
  return database;
}

Database::~Database() { sqlite3_close_v2(db_); }

absl::Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(code);
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(
      db_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return ErrorOf(code);
  return Statement(this, statement);
}

absl::StatusOr<int64_t> Database::QueryInt(absl::string_view sql) {
  ABSL_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ABSL_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) {
    return absl::DataLossError(absl::StrCat(path_, ": no row for: ", sql));
  }
  return statement.Int(0);
}

absl::StatusOr<std::string> Database::QueryText(absl::string_view sql) {
  ABSL_ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ABSL_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) {
    return absl::DataLossError(absl::StrCat(path_, ": no row for: ", sql));
  }
  return statement.Bytes(0);
}

bool Database::InTransaction() const {
  return sqlite3_get_autocommit(db_) == 0;
}

int64_t Database::ChangedRows() const { return sqlite3_changes64(db_); }

void Database::SetCheckpointOnClose(bool checkpoint) {
  sqlite3_db_config(db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, checkpoint ? 0 : 1,
                    nullptr);
}

absl::Status Database::ErrorOf(int code) const {
  const std::string detail =
      db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_);
  return absl::Status(
      CodeOf(code, db_ == nullptr ? 0 : sqlite3_system_errno(db_)),
      absl::StrCat(path_, ": ", detail, " (SQLite error ", code, ")"));
}

}  // namespace koinon::coordinator
