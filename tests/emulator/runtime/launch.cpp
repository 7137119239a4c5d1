// The entry point for the host, and the loop over a grid's blocks.
#include "launch.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "copies.h"
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
  statistics().begin_launch();
  std::vector<std::uint32_t> blocks(request->grid);
  for (std::uint32_t i = 0; i < request->grid; ++i) {
    blocks[i] = i;
    std::swap(blocks[i], blocks[random.below(i + 1)]);
  }
  const int threads = static_cast<int>(request->block_x * request->block_y);
  for (std::uint32_t block : blocks) {
    memory().begin_block(request->shared_bytes);
    begin_copies(static_cast<Moves>(request->moves), Random(random.next()));
    if (!scheduler().run(block, threads, thread_body, random)) return;
    for (int warp = 0; warp * kWarp < threads; ++warp) statistics().converge(warp);
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
