#include "tools/cli/connection.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

TEST(ResolveTlsFiles, CertsFolder_NamesTheIdentitysFiles) {
  ConnectionOptions options;
  options.certs_dir = "certs";
  options.identity = "alice";
  ASSERT_OK_AND_ASSIGN(const TlsFiles files, ResolveTlsFiles(options));
  EXPECT_EQ(files.certificate, "certs/client-alice.pem");
  EXPECT_EQ(files.key, "certs/client-alice.key");
  EXPECT_EQ(files.ca, "certs/ca.pem");
}

TEST(ResolveTlsFiles, IdentityThatIsAPath_IsRefused) {
  ConnectionOptions options;
  options.certs_dir = "certs";
  options.identity = "../alice";
  EXPECT_THAT(
      ResolveTlsFiles(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--identity")));
}

TEST(ResolveTlsFiles, NoWayGiven_IsRefusedAndListsTheWays) {
  EXPECT_THAT(ResolveTlsFiles(ConnectionOptions()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--insecure for plaintext")));
}

TEST(ResolveTlsFiles, TwoWaysGiven_AreRefused) {
  ConnectionOptions options;
  options.certs_dir = "certs";
  options.insecure = true;
  EXPECT_THAT(
      ResolveTlsFiles(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than one")));
}

TEST(ResolveTlsFiles, HalfOfTheFiles_IsRefused) {
  ConnectionOptions options;
  options.tls.certificate = "a.pem";
  EXPECT_THAT(
      ResolveTlsFiles(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("go together")));
}

TEST(Connect, NoCoordinatorGiven_NamesFlagAndVariable) {
  ConnectionOptions options;
  options.insecure = true;
  EXPECT_THAT(Connect(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("KOINON_COORDINATOR")));
}

TEST(Connect, MissingCertificate_IsNamed) {
  ConnectionOptions options;
  options.coordinator = "127.0.0.1:1";
  options.certs_dir = "no-such-folder";
  const auto client = Connect(options);
  EXPECT_FALSE(client.ok());
  EXPECT_THAT(std::string(client.status().message()),
              HasSubstr("no-such-folder/"));
}

TEST(AddConnectionFlags, CommandLine_FillsTheOptions) {
  CLI::App app;
  ConnectionOptions options;
  AddConnectionFlags(&app, &options);
  app.parse("--coordinator host:1 --certs c --identity me");
  EXPECT_EQ(options.coordinator, "host:1");
  EXPECT_EQ(options.certs_dir, "c");
  EXPECT_EQ(options.identity, "me");
}

}  // namespace
}  // namespace koinon::cli
