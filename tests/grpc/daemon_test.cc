#include "common/grpc/daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/http/curl_transport.h"
#include "tests/support/matchers.h"

namespace snapkeeper {
namespace {

using testing::HasSubstr;

TEST(PlaintextTest, IsForLoopbackAlone) {
  struct Case {
    bool insecure;
    std::string listen, http_listen, executor;
    std::string refused;  // what the refusal says; "" if none
  };
  for (const Case& c : std::vector<Case>{
           {true, "127.0.0.1:7400", "127.0.0.1:0", "127.0.0.1:7410", ""},
           {true, "[::1]:7400", "localhost:7480", "127.8.9.10:1", ""},
           {false, "127.0.0.1:7400", "127.0.0.1:0", "127.0.0.1:7410",
            "TLS is not available yet: give --insecure"},
           {true, "0.0.0.0:7400", "127.0.0.1:0", "127.0.0.1:7410", "--listen 0.0.0.0:7400"},
           {true, "127.0.0.1:7400", "[::]:7480", "127.0.0.1:7410", "--http-listen [::]:7480"},
           {true, "127.0.0.1:7400", "127.0.0.1:0", "executor.example.com:7410",
            "--executor executor.example.com:7410"},
       }) {
    DaemonOptions options;
    options.insecure = c.insecure;
    options.listen = c.listen;
    options.http_listen = c.http_listen;
    const absl::Status status = CheckPlaintext(options, {{"executor", c.executor}});
    if (c.refused.empty()) {
      EXPECT_THAT(status, IsOk());
    } else {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.refused)));
      EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("\n")));
    }
  }
}

// Parses as a daemon does.
std::optional<OptionParser::Stop> Parse(std::vector<const char*> args, DaemonOptions& options,
                                        std::map<std::string, std::string> environment = {}) {
  options.listen = "127.0.0.1:7410";
  options.http_listen = "127.0.0.1:7490";
  OptionParser parser("daemon", "A test.");
  AddDaemonFlags(parser, options);
  args.insert(args.begin(), "daemon");
  return parser.Parse(
      static_cast<int>(args.size()), args.data(),
      [&environment](const char* name) {
        const auto it = environment.find(name);
        return it == environment.end() ? nullptr : it->second.c_str();
      },
      [&options] { return CheckPlaintext(options); });
}

TEST(DaemonFlagsTest, AreSetFromFlagsAndEnvironment) {
  DaemonOptions options;
  EXPECT_FALSE(
      Parse({"--insecure", "--listen", "127.0.0.1:0", "--log-format=json", "--kubeconfig", "k"},
            options, {{"SNAPKEEPER_HTTP_LISTEN", "[::1]:0"}, {"SNAPKEEPER_LOG_LEVEL", "debug"}}));
  EXPECT_TRUE(options.insecure);
  EXPECT_EQ(options.listen, "127.0.0.1:0");
  EXPECT_EQ(options.http_listen, "[::1]:0");
  EXPECT_EQ(options.kubeconfig, "k");
  EXPECT_EQ(options.log_format, LogFormat::kJson);
  EXPECT_EQ(options.log_level, LogLevel::kDebug);
}

TEST(DaemonFlagsTest, RefusalsAreOneLineAndExitCode2) {
  struct Case {
    std::vector<const char*> args;
    std::string says;
  };
  for (const Case& c : std::vector<Case>{
           {{}, "--insecure"},
           {{"--insecure", "--listen", "0.0.0.0:0"}, "--listen 0.0.0.0:0"},
           {{"--insecure", "--listen", "7410"}, "HOST:PORT"},
           {{"--insecure", "--tls-cert", "x"}, "tls-cert"},
           {{"--insecure", "--log-level", "loud"}, "loud"},
       }) {
    DaemonOptions options;
    const auto stop = Parse(c.args, options);
    ASSERT_TRUE(stop);
    EXPECT_EQ(stop->exit_code, 2);
    EXPECT_THAT(stop->text, HasSubstr(c.says));
    EXPECT_EQ(stop->text.find('\n'), stop->text.size() - 1) << stop->text;
  }
}

TEST(InstanceNameTest, DiffersFromProcessToProcess) {
  Rng rng(1);
  const std::string a = InstanceName(rng), b = InstanceName(rng);
  EXPECT_NE(a, b);
  EXPECT_EQ(a.size(), b.size());
}

TEST(RestClientMetricsTest, CountsAsClientGoDoes) {
  Metrics metrics("1");
  const auto observe = RestClientMetrics(metrics);
  observe({.method = "GET", .host = "h:1", .code = 200, .took = absl::Milliseconds(20)});
  observe({.method = "GET", .host = "h:1", .code = 200, .took = std::nullopt});
  observe({.method = "POST", .host = "h:1", .code = 0, .took = absl::Seconds(30)});
  const std::string text = metrics.Serialize({});
  EXPECT_THAT(text,
              HasSubstr(R"(rest_client_requests_total{code="200",host="h:1",method="GET"} 2)"));
  EXPECT_THAT(
      text, HasSubstr(R"(rest_client_requests_total{code="<error>",host="h:1",method="POST"} 1)"));
  EXPECT_THAT(
      text,
      HasSubstr(
          R"(rest_client_request_duration_seconds_bucket{host="h:1",verb="GET",le="0.025"} 1)"));
  EXPECT_THAT(text,
              HasSubstr(R"(rest_client_request_duration_seconds_count{host="h:1",verb="GET"} 1)"));
}

// Lets the test move time.
class MovedTransport : public CurlTransport {
 public:
  absl::Duration Elapsed() const override { return absl::Milliseconds(ms.load()); }
  std::atomic<int> ms = 0;
};

// Signals are the process', so these run in processes of their own.
class SignalsDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  // Exits with 10 when told to stop by a first signal, and lets a second one come `later_ms` after
  // that if asked to.
  [[noreturn]] static void RunUntilStopped(int first, int second, int later_ms = 0) {
    BlockSignals();
    const auto log = MakeStderrLog(LogFormat::kText, LogLevel::kInfo);
    MovedTransport transport;
    EventLoop loop(transport);
    {
      kill(getpid(), first);  // before anybody waits: it is not lost
      const Signals signals(loop, *log, [&loop, &transport, second, later_ms] {
        transport.ms = later_ms;
        if (second != 0) kill(getpid(), second);
        // The loop is stuck until somebody has taken it.
        for (sigset_t pending; sigpending(&pending) == 0 && sigismember(&pending, second) == 1;)
          std::this_thread::yield();
        if (later_ms < 1000) return loop.Stop();
        pause();  // never returns: these signals are blocked here
      });
      loop.Run();
    }
    _exit(10);
  }
};

TEST_F(SignalsDeathTest, TheFirstStopsInOrder) {
  EXPECT_EXIT(RunUntilStopped(SIGTERM, 0), testing::ExitedWithCode(10),
              "msg=stopping signal=SIGTERM");
  EXPECT_EXIT(RunUntilStopped(SIGINT, 0), testing::ExitedWithCode(10),
              "msg=stopping signal=SIGINT");
  EXPECT_EXIT(RunUntilStopped(SIGHUP, 0), testing::ExitedWithCode(10),
              "msg=stopping signal=SIGHUP");
}

TEST_F(SignalsDeathTest, AHangupThatNohupIgnoresIsIgnored) {
  EXPECT_EXIT(
      {
        signal(SIGHUP, SIG_IGN);
        BlockSignals();
        kill(getpid(), SIGHUP);
        RunUntilStopped(SIGTERM, 0);
      },
      testing::ExitedWithCode(10), "msg=stopping signal=SIGTERM");
}

// `timeout` sends its signal to the child and to the child's group.
TEST_F(SignalsDeathTest, ARepeatWithinASecondIsTheSameOne) {
  EXPECT_EXIT(RunUntilStopped(SIGTERM, SIGTERM, 999), testing::ExitedWithCode(10),
              "msg=stopping signal=SIGTERM");
}

TEST_F(SignalsDeathTest, TheSecondStopsAtOnceThoughTheLoopIsStuck) {
  EXPECT_EXIT(RunUntilStopped(SIGTERM, SIGTERM, 1000), testing::ExitedWithCode(1),
              "stopping at once");
  EXPECT_EXIT(RunUntilStopped(SIGINT, SIGTERM, 1000), testing::ExitedWithCode(1),
              "stopping at once");
}

TEST_F(SignalsDeathTest, EndsWithoutASignal) {
  EXPECT_EXIT(
      {
        BlockSignals();
        NullLog log;
        CurlTransport transport;
        EventLoop loop(transport);
        {
          const Signals signals(loop, log, [] {});
        }
        _exit(11);
      },
      testing::ExitedWithCode(11), "");
}

// A whole process, without an API server.
class DaemonDeathTest : public testing::Test {
 protected:
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  static DaemonOptions Options(const std::string& kubeconfig) {
    DaemonOptions options;
    options.kubeconfig = testing::TempDir() + "/kubeconfig";
    std::ofstream(options.kubeconfig) << kubeconfig;
    options.listen = options.http_listen = "127.0.0.1:0";
    options.insecure = true;
    return options;
  }
  static constexpr char kNobody[] = R"(
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
users: [{name: a, user: {}}]
current-context: a
)";
};

TEST_F(DaemonDeathTest, RunsUntilASignalAndDrainsBeforeItEnds) {
  EXPECT_EXIT(
      {
        const auto daemon = Daemon::Start(Options(kNobody), "test");
        daemon->loop().Post([] { kill(getpid(), SIGTERM); });
        _exit(daemon->Run({}, {},
                          [&daemon] { daemon->loop().Post([&daemon] { daemon->Stop(12); }); }));
      },
      testing::ExitedWithCode(12),
      "not ready.*clock: the API server(.|\n)*listening grpc=127.0.0.1:[1-9][0-9]* "
      "http=127.0.0.1:[1-9](.|\n)*stopping "
      "signal=SIGTERM(.|\n)*stopped exit_code=12");
}

TEST_F(DaemonDeathTest, EndsWithoutASignalWhenItsCoreSaysSo) {
  EXPECT_EXIT(
      {
        const auto daemon = Daemon::Start(Options(kNobody), "test");
        daemon->loop().Post([&daemon] { daemon->Stop(3); });
        _exit(daemon->Run({}, {}, [] {}));
      },
      testing::ExitedWithCode(3), "stopped exit_code=3");
}

TEST_F(DaemonDeathTest, SaysWhyItCannotStart) {
  EXPECT_EXIT(_exit(Daemon::Start(Options("kind: Nonsense"), "test") ? 0 : 1),
              testing::ExitedWithCode(1), "level=error msg=.cannot start");
  EXPECT_EXIT(
      {
        Metrics metrics("test");
        const auto taken = GrpcServer::Start("127.0.0.1:0", {}, metrics);
        DaemonOptions options = Options(kNobody);
        options.listen = (*taken)->address();
        _exit(Daemon::Start(options, "test")->Run({}, {}, [] {}));
      },
      testing::ExitedWithCode(1),
      "level=error msg=grpc text=.*Address already in use(.|\\n)*level=error msg=.cannot start. "
      "error=.UNAVAILABLE: cannot listen on 127.0.0.1:");
}

}  // namespace
}  // namespace snapkeeper
