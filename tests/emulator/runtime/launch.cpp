// The entry point for the host, and the loop over a grid's blocks.
#include "launch.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "engines.h"
#include "fault.h"
#include "scheduler.h"

namespace emulator {

static const Kernel* kernel = nullptr;
static const Request* request = nullptr;

const Request& running() { return *request; }

static void thread_body() { kernel->call(request->arguments); }

static std::string refusal() {
  const std::uint64_t threads = std::uint64_t{request->block_x} * request->block_y;
  const auto text = [](std::uint64_t number) { return std::to_string(number); };
  if (request->argument_bytes != kernel->argument_bytes) {
    return "the kernel's argument has " + text(kernel->argument_bytes) + " bytes, the launch's " +
           text(request->argument_bytes);
  }
  if (threads == 0 || threads > kMaxThreads) return "a block of " + text(threads) + " threads: 1 to 1024 are possible";
  if (request->grid == 0) return "a grid of no blocks";
  if (request->cluster == 0 || request->cluster > kMaxCluster) {
    return "clusters of " + text(request->cluster) + " blocks: 1 to " + text(kMaxCluster) + " are possible";
  }
  if (request->grid % request->cluster != 0) {
    return "a grid of " + text(request->grid) + " blocks in clusters of " + text(request->cluster);
  }
  if (request->shared_bytes > kernel->shared_limit) {
    return text(request->shared_bytes) + " bytes of shared memory: this architecture has " +
           text(kernel->shared_limit) + " for a block";
  }
  return "";
}

static void run_grid() {
  const std::string reason = refusal();
  if (!reason.empty()) return note_fault("bad argument", reason);
  Random random(request->seed);
  memory().begin_launch(*kernel, request->ranges, request->range_count, request->writable, request->buffers);
  const int threads = static_cast<int>(request->block_x * request->block_y);
  const int blocks = static_cast<int>(request->cluster);
  const int warps = blocks * ((threads + kWarp - 1) / kWarp);
  statistics().begin_launch(warps);
  std::vector<std::uint32_t> clusters(request->grid / request->cluster);
  for (std::uint32_t i = 0; i < clusters.size(); ++i) {
    clusters[i] = i;
    std::swap(clusters[i], clusters[random.below(i + 1)]);
  }
  for (std::uint32_t cluster : clusters) {
    scheduler().begin(cluster, blocks, threads);
    memory().begin_cluster(blocks, request->shared_bytes);
    begin_engines(static_cast<Moves>(request->moves), Random(random.next()));
    if (!scheduler().run(thread_body, random)) return;
    for (int warp = 0; warp < warps; ++warp) statistics().converge(warp);
  }
}

static void copy_text(const std::string& text, char* to, std::size_t room) {
  to[text.copy(to, room - 1)] = '\0';
}

}  // namespace emulator

extern "C" void emulator_launch(const emulator::Kernel* kernel, const emulator::Request* request,
                                emulator::Response* response) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> guard(one_at_a_time);
  emulator::kernel = kernel;
  emulator::request = request;
  emulator::forget_fault();
  emulator::run_grid();
  response->counts = emulator::statistics().counts();
  emulator::copy_text(emulator::fault().kind, response->kind, sizeof response->kind);
  emulator::copy_text(emulator::fault().message, response->message, sizeof response->message);
}
