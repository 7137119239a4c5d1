"use strict";
// All videos of a row show the same frame: the first one leads, the others follow it.
document.querySelectorAll("[data-player]:not([data-ready])").forEach((row) => {
  row.dataset.ready = "yes";
  const fps = +row.dataset.fps;
  const videos = Array.from(row.querySelectorAll("video"));
  const button = row.querySelector('[data-do="play"]');
  const slider = row.querySelector("input");
  const shown = row.querySelector("output");
  if (!videos.length) { row.querySelector(".controls").hidden = true; return; }
  const lead = videos[0];
  const count = () => Math.max(1, Math.round((lead.duration || 0) * fps));
  const frame = () => Math.min(count() - 1, Math.floor(lead.currentTime * fps + 1e-3));
  let playing = false, seen = false;

  function label() {
    slider.max = count() - 1;
    slider.value = frame();
    shown.value = `${frame() + 1} / ${count()}`;
    button.textContent = playing ? "Pause" : "Play";
  }
  function go(index) {
    const at = ((index % count()) + count()) % count();
    // The middle of a frame: its edge may be rounded to the frame before.
    videos.forEach((video) => { video.currentTime = (at + 0.5) / fps; });
    slider.value = at;
    shown.value = `${at + 1} / ${count()}`;
  }
  function play() {
    playing = true;
    videos.forEach((video) => { video.currentTime = lead.currentTime; video.play().catch(() => {}); });
    label();
    requestAnimationFrame(tick);
  }
  function pause(kept) {
    playing = false;
    videos.forEach((video) => video.pause());
    if (kept) seen = true;
    label();
  }
  function tick() {
    if (!playing) return;
    if (lead.ended || lead.currentTime >= lead.duration - 1e-3) {
      videos.forEach((video) => { video.currentTime = 0; });
      videos.forEach((video) => video.play().catch(() => {}));
    }
    videos.slice(1).forEach((video) => {
      if (Math.abs(video.currentTime - lead.currentTime) > 0.75 / fps && !video.seeking) {
        video.currentTime = lead.currentTime;
      }
    });
    label();
    requestAnimationFrame(tick);
  }
  function step(by) { pause(true); go(frame() + by); }

  button.onclick = () => (playing ? pause(true) : play());
  row.querySelector('[data-do="back"]').onclick = () => step(-1);
  row.querySelector('[data-do="on"]').onclick = () => step(1);
  slider.oninput = () => { const at = +slider.value; pause(true); go(at); };
  row.onkeydown = (event) => {
    if (event.target !== row) return; // buttons and the slider have keys of their own
    const keys = { " ": () => (playing ? pause(true) : play()), ArrowLeft: () => step(-1), ArrowRight: () => step(1) };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  };
  lead.addEventListener("loadeddata", label);
  label();
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    // Rows play while they are on the screen, until someone stops them.
    new IntersectionObserver((entries) => {
      if (seen) return;
      entries[0].isIntersecting ? play() : pause(false);
    }, { threshold: 0.2 }).observe(row);
  }
});
