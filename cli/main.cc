// snapkeeper (= kubectl-snapkeeper), the command line.
// Exit codes: 0 done; 1 the output could not be written; 2 invalid input, with one line on stderr.

#include <absl/time/clock.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "cli/preview.h"

namespace {

constexpr int kOutputFailed = 1;
constexpr int kInvalidInput = 2;

int Fail(int exit_code, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  fmt::print(stderr, "snapkeeper: {}\n", message);
  return exit_code;
}

int Finish() {
  if (std::cout.flush()) return 0;
  return Fail(kOutputFailed, "the output could not be written");
}

int PreviewOne(const snapkeeper::PreviewRequest& request, bool json) {
  const auto preview = snapkeeper::PreviewSchedule(request, absl::Now());
  if (!preview.ok()) return Fail(kInvalidInput, std::string(preview.status().message()));
  std::cout << (json ? snapkeeper::PreviewJson(*preview) + '\n'
                     : snapkeeper::PreviewTable(*preview));
  return Finish();
}

int PreviewFile(const std::string& path) {
  std::ifstream file(path);
  // A folder opens and fails at the first read.
  if (file) file.peek();
  if (!file.eof() && !file) {
    return Fail(kInvalidInput, fmt::format("--batch {}: {}", path, std::strerror(errno)));
  }
  snapkeeper::PreviewBatch(file, std::cout, absl::Now());
  if (file.bad()) {
    return Fail(kInvalidInput, fmt::format("--batch {}: {}", path, std::strerror(errno)));
  }
  return Finish();
}

int Run(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  CLI::App app("Snapkeeper takes CSI volume snapshots on a schedule.", "snapkeeper");
  app.set_version_flag("--version", "snapkeeper " SNAPKEEPER_VERSION);
  app.require_subcommand(1);
  CLI::App* schedule = app.add_subcommand("schedule", "Work with schedules; needs no cluster");
  schedule->require_subcommand(1);
  CLI::App* preview = schedule->add_subcommand("preview", "Show when a schedule fires");

  snapkeeper::PreviewRequest request;
  std::string batch;
  std::string output = "table";
  CLI::Option* expression =
      preview->add_option("EXPR", request.schedule, "5 cron fields, a macro, or @every DURATION");
  CLI::Option* zone =
      preview->add_option("--time-zone", request.time_zone, "IANA name")->capture_default_str();
  CLI::Option* after =
      preview->add_option("--after", request.after, "RFC 3339 time to start after (default: now)");
  std::string count_text = std::to_string(request.count);
  CLI::Option* count =
      preview->add_option("--count", count_text, "how many instants")->capture_default_str();
  CLI::Option* from_file =
      preview
          ->add_option(
              "--batch", batch,
              "file of JSON lines {schedule, timeZone, after, count}; answers one JSON line each")
          ->excludes(expression, zone, after, count);
  preview->add_option("-o,--output", output, "format")
      ->check(CLI::IsMember({"json", "table"}))
      ->capture_default_str();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    if (const std::vector<std::string> unknown = app.remaining(/*recurse=*/true); !unknown.empty())
      return Fail(kInvalidInput, fmt::format("\"{}\" is not known; see --help", unknown[0]));
    return Fail(kInvalidInput, error.what());
  }
  const bool json = output == "json";
  const char* const count_end = count_text.data() + count_text.size();
  if (const auto [end, error] = std::from_chars(count_text.data(), count_end, request.count);
      error != std::errc() || end != count_end) {
    return Fail(kInvalidInput, fmt::format("count {}: allowed are 1 to 10000", count_text));
  }
  if (!from_file->empty()) {
    return json ? PreviewFile(batch) : Fail(kInvalidInput, "--batch answers in JSON: add -o json");
  }
  if (expression->empty()) return Fail(kInvalidInput, "give an EXPR, or --batch FILE");
  return PreviewOne(request, json);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "snapkeeper: %s\n", error.what());
    return kOutputFailed;
  }
}
