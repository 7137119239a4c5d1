"""Every video denoiser of diffusers, at real size without weights and tiny with them, and what recipes do to each."""
