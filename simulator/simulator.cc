#include "simulator/simulator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>

#include "common/kube/json.h"
#include "common/model/clock.h"
#include "simulator/api_error.h"

namespace snapkeeper {
namespace {

using nlohmann::json;

void MustBeOk(const char* what, const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "simulator: %s: %s\n", what, status.ToString().c_str());
  std::abort();
}

}  // namespace

// What outlives the handle: replies on their way look here first.
struct Simulator::Session {
  Simulator* simulator;  // null once it is gone
  EventLoop* loop;       // null once the handle is gone
  std::string user;
  ServerClock server_clock;
};

// One watch. Events wait in `inbox` until the client's loop turns.
struct Simulator::Stream {
  std::shared_ptr<Session> session;
  Kind kind;
  KubeApi::OnEvent on_event;
  KubeApi::Ended ended;
  uint64_t watch = 0;  // of the store; 0: none
  bool stalled = false, cancelled = false, posted = false;
  std::deque<WatchEvent> inbox;
  std::optional<absl::Status> end;
  absl::Duration last_due = absl::ZeroDuration();  // of delayed events: they stay in order
  int delayed = 0;
};

class Simulator::Client : public KubeApi {
 public:
  Client(Simulator& simulator, EventLoop& loop, std::string user)
      : session_(
            std::make_shared<Session>(Session{&simulator, &loop, std::move(user), ServerClock()})) {
    simulator.sessions_.insert(session_.get());
  }
  ~Client() override {
    session_->loop = nullptr;
    if (session_->simulator == nullptr) return;
    session_->simulator->sessions_.erase(session_.get());
    session_->simulator->DropStreams(*session_);
  }

  Call Get(const ObjectKey& key, Done done) override {
    return Send<absl::StatusOr<ObjectPtr>>(
        Verb::kGet, key,
        [key](Store& store, const std::string&) { return ValueOf(store.Get(key)); },
        std::move(done));
  }

  Call List(const ListQuery& query, Listed done) override {
    return Send<absl::StatusOr<ListResult>>(
        Verb::kList, {query.kind, query.ns, ""},
        [query](Store& store, const std::string&) -> absl::StatusOr<ListResult> {
          const absl::StatusOr<Selector> selector = ParseSelector(query);
          if (!selector.ok()) return WithoutBody(selector.status());
          const absl::StatusOr<Store::Page> page = store.List(query.kind, *selector);
          if (!page.ok()) return WithoutBody(page.status());
          ListResult result;
          result.resource_version = std::to_string(page->rv);
          result.items.reserve(page->items.size());
          for (const VersionPtr& version : page->items) result.items.push_back(version->value);
          return result;
        },
        std::move(done));
  }

  Call Create(Kind kind, json body, Done done) override {
    const json& meta = body.at("metadata");
    const ObjectKey key{kind, meta.value("namespace", ""), meta.value("name", "")};
    return Send<absl::StatusOr<ObjectPtr>>(
        Verb::kCreate, key,
        [kind, sent = std::move(body)](Store& store, const std::string& user) mutable {
          return ValueOf(store.Create(kind, std::move(sent), user));
        },
        std::move(done));
  }

  Call Delete(const ObjectKey& key, const Preconditions& preconditions,
              absl::AnyInvocable<void(absl::Status)> done) override {
    return Send<absl::Status>(
        Verb::kDelete, key,
        [key, preconditions](Store& store, const std::string& user) {
          return WithoutBody(store.Delete(key, preconditions, user).status());
        },
        std::move(done));
  }

  Call Patch(const ObjectKey& key, json patch, bool status, Done done) override {
    return Send<absl::StatusOr<ObjectPtr>>(
        Verb::kPatch, key,
        [key, sent = std::move(patch), status](Store& store, const std::string& user) mutable {
          return ValueOf(store.Patch(key, std::move(sent), status, user));
        },
        std::move(done));
  }

  Call Watch(const ListQuery& query, const std::string& resource_version, OnEvent on_event,
             Ended ended) override {
    auto stream = std::make_shared<Stream>();
    stream->session = session_;
    stream->kind = query.kind;
    stream->on_event = std::move(on_event);
    stream->ended = std::move(ended);
    Simulator& simulator = *session_->simulator;
    simulator.streams_.push_back(stream);
    const Fault fault =
        simulator.FaultFor(session_->user, Verb::kWatch, {query.kind, query.ns, ""});
    if (!fault.acts || !fault.reply.ok()) {
      simulator.Later(fault.request_delay + fault.reply_delay,
                      [stream, status = fault.reply] { EndStream(stream, status); });
    } else {
      simulator.Later(fault.request_delay, [stream, query, resource_version] {
        if (stream->session->simulator != nullptr)
          stream->session->simulator->StartStream(stream, query, resource_version);
      });
    }
    return Call([stream] {
      stream->cancelled = true;
      if (stream->session->simulator != nullptr) stream->session->simulator->StopStream(*stream);
    });
  }

  std::optional<absl::Duration> ClockOffset() const override {
    return session_->server_clock.Offset(session_->loop->Now(), session_->loop->Elapsed());
  }

 private:
  static absl::StatusOr<ObjectPtr> ValueOf(absl::StatusOr<VersionPtr> version) {
    if (!version.ok()) return WithoutBody(version.status());
    return (*version)->value;
  }

  template <class Done, class Result>
  static void Answer(const std::shared_ptr<Session>& session,
                     const std::shared_ptr<std::optional<Done>>& pending, Result result,
                     std::function<void()> first = nullptr) {
    if (session->loop == nullptr || !pending->has_value()) return;
    session->loop->Post(
        [session, pending, result = std::move(result), first = std::move(first)]() mutable {
          if (session->loop == nullptr || !pending->has_value()) return;
          if (first) first();
          Done callback = std::move(**pending);
          pending->reset();
          callback(std::move(result));
        });
  }

  // `act` is what the server does; it arrives even if the client has gone by then.
  template <class Result, class Act, class Done>
  Call Send(Verb verb, const ObjectKey& key, Act act, Done done) {
    auto pending = std::make_shared<std::optional<Done>>(std::move(done));
    const absl::Duration sent = session_->loop->Elapsed();
    Simulator& simulator = *session_->simulator;
    const Fault fault = simulator.FaultFor(session_->user, verb, key);
    if (fault.request_delay + fault.reply_delay > kRequestDeadline) {
      // The client gives up; the request may still arrive.
      simulator.Later(kRequestDeadline, [session = session_, pending] {
        Answer(session, pending,
               Result(absl::DeadlineExceededError("no answer within the deadline")));
      });
    }
    simulator.Later(fault.request_delay, [session = session_, pending, fault, sent,
                                          act = std::move(act)]() mutable {
      if (session->simulator == nullptr) return;
      Simulator& server = *session->simulator;
      std::optional<Result> result;
      if (fault.acts) result = act(server.store_, session->user);
      if (!fault.reply.ok()) result = Result(fault.reply);
      server.Later(fault.reply_delay, [session, pending, sent, served = server.loop_.Now(),
                                       result = std::move(*result)]() mutable {
        // As from a Date header, in whole seconds.
        const absl::Time date = absl::FromUnixSeconds(absl::ToUnixSeconds(served));
        Answer(session, pending, std::move(result), [session, sent, date] {
          session->server_clock.Hear(date, sent, session->loop->Elapsed());
        });
      });
    });
    return Call([pending] { pending->reset(); });
  }

  std::shared_ptr<Session> session_;
};

Simulator::Simulator(EventLoop& loop, Rng& rng, SimulatorOptions options)
    : loop_(loop),
      options_(std::move(options)),
      store_(loop, rng, options_.store),
      volumes_(loop, rng, store_, options_.storage_classes) {
  AddNamespace("default");
  AddNamespace("kube-system");
}

Simulator::~Simulator() {
  for (Session* session : sessions_) session->simulator = nullptr;
}

std::unique_ptr<KubeApi> Simulator::Connect(EventLoop& client_loop, std::string user) {
  return std::make_unique<Client>(*this, client_loop, std::move(user));
}

void Simulator::SetFaultPlan(FaultPlan* plan) { plan_ = plan; }

Fault Simulator::FaultFor(std::string_view user, Verb verb, const ObjectKey& key) {
  return plan_ == nullptr ? Fault() : plan_->OnRequest(user, verb, key);
}

void Simulator::Later(absl::Duration delay, EventLoop::Task task) {
  if (delay <= absl::ZeroDuration()) return task();
  const uint64_t id = next_timer_++;
  in_flight_[id] = loop_.After(delay, [this, id, task = std::move(task)]() mutable {
    const auto node = in_flight_.extract(id);
    task();
  });
}

void Simulator::BreakWatches(std::string_view user, WatchBreak how) {
  for (const std::shared_ptr<Stream>& stream : std::vector(streams_)) {
    if (!user.empty() && stream->session->user != user) continue;
    switch (how) {
      case WatchBreak::kEnd:
        EndStream(stream, absl::OkStatus());
        break;
      case WatchBreak::kReset:
        EndStream(stream, absl::UnavailableError("connection reset"));
        break;
      case WatchBreak::kExpired:
        EndStream(stream, WithoutBody(Expired("too old resource version")));
        break;
      case WatchBreak::kStall:
        if (std::exchange(stream->stalled, true)) break;
        Later(kSilenceLimit, [stream] {
          EndStream(stream, absl::DeadlineExceededError("the watch fell silent"));
        });
        break;
    }
  }
}

void Simulator::StartStream(const std::shared_ptr<Stream>& stream, const ListQuery& query,
                            const std::string& resource_version) {
  if (stream->cancelled || stream->end) return;
  const absl::StatusOr<Selector> selector = ParseSelector(query);
  if (!selector.ok()) return EndStream(stream, WithoutBody(selector.status()));
  const int64_t rv = std::atoll(resource_version.c_str());
  const auto watch = store_.Watch(query.kind, *selector, rv, [stream](const StoreEvent& event) {
    stream->session->simulator->Deliver(
        stream,
        {event.type, event.version ? event.version->value : nullptr, std::to_string(event.rv)});
  });
  if (!watch.ok()) return EndStream(stream, WithoutBody(watch.status()));
  stream->watch = *watch;
  stream->inbox.push_front({WatchEvent::kBookmark, nullptr, resource_version});  // accepted
  Notify(stream);
}

void Simulator::Deliver(const std::shared_ptr<Stream>& stream, WatchEvent event) {
  if (stream->stalled || stream->end) return;
  const EventFault fault =
      plan_ == nullptr ? EventFault() : plan_->OnEvent(stream->session->user, stream->kind);
  for (int copy = 1; copy < fault.copies; ++copy) Arrive(stream, event, fault.delay);
  Arrive(stream, std::move(event), fault.delay);
}

void Simulator::Arrive(const std::shared_ptr<Stream>& stream, WatchEvent event,
                       absl::Duration delay) {
  stream->last_due = std::max(stream->last_due, loop_.Elapsed() + delay);
  if (stream->last_due > loop_.Elapsed() || stream->delayed > 0) {
    ++stream->delayed;
    Later(std::max(stream->last_due - loop_.Elapsed(), absl::Nanoseconds(1)),
          [stream, event = std::move(event)]() mutable {
            --stream->delayed;
            stream->inbox.push_back(std::move(event));
            Notify(stream);
          });
    return;
  }
  stream->inbox.push_back(std::move(event));
  Notify(stream);
}

// Has the client's loop empty the inbox.
void Simulator::Notify(const std::shared_ptr<Stream>& stream) {
  if (stream->cancelled || stream->session->loop == nullptr || std::exchange(stream->posted, true))
    return;
  stream->session->loop->Post([stream] {
    stream->posted = false;
    while (!stream->inbox.empty() && !stream->cancelled && stream->session->loop != nullptr) {
      const WatchEvent event = std::move(stream->inbox.front());
      stream->inbox.pop_front();
      stream->on_event(event);
    }
    if (!stream->end || stream->cancelled || stream->session->loop == nullptr) return;
    stream->cancelled = true;
    stream->ended(*stream->end);
  });
}

void Simulator::EndStream(const std::shared_ptr<Stream>& stream, absl::Status status) {
  if (stream->cancelled || stream->end) return;
  stream->end = std::move(status);
  if (stream->session->simulator != nullptr) stream->session->simulator->StopStream(*stream);
  Notify(stream);
}

void Simulator::StopStream(Stream& stream) {
  if (stream.watch != 0) store_.Unwatch(stream.kind, std::exchange(stream.watch, 0));
  std::erase_if(streams_, [&](const std::shared_ptr<Stream>& s) { return s.get() == &stream; });
}

void Simulator::DropStreams(const Session& session) {
  for (const std::shared_ptr<Stream>& stream : std::vector(streams_)) {
    if (stream->session.get() == &session) StopStream(*stream);
  }
}

void Simulator::AddNamespace(const std::string& name) {
  MustBeOk("AddNamespace",
           store_.Create(Kind::kNamespace, {{"metadata", {{"name", name}}}}, "admin").status());
}

void Simulator::AddSnapshotClass(const std::string& name, std::string_view driver, bool is_default,
                                 std::string_view deletion_policy) {
  json body = {
      {"metadata", {{"name", name}}}, {"driver", driver}, {"deletionPolicy", deletion_policy}};
  if (is_default)
    body["metadata"]["annotations"]["snapshot.storage.kubernetes.io/is-default-class"] = "true";
  MustBeOk("AddSnapshotClass",
           store_.Create(Kind::kSnapshotClass, std::move(body), "admin").status());
}

void Simulator::AddClaim(const std::string& ns, const std::string& name,
                         const std::map<std::string, std::string>& labels,
                         const std::string& storage_class) {
  const json body = {{"metadata", {{"namespace", ns}, {"name", name}, {"labels", labels}}},
                     {"spec",
                      {{"accessModes", {"ReadWriteOnce"}},
                       {"storageClassName", storage_class},
                       {"resources", {{"requests", {{"storage", "1Gi"}}}}}}}};
  MustBeOk("AddClaim", store_.Create(Kind::kClaim, body, "admin").status());
}

}  // namespace snapkeeper
