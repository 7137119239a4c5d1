# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quality against latency

# %%
from IPython.display import display

from quant.eval.drawing.markup import side_by_side, styles
from quant.eval.drawing.pareto import leading_plots
from quant.eval.drawing.sensitivity import heat_maps
from quant.eval.drawing.step_error import step_errors
from quant.eval.report.candidate_table import candidate_table
from quant.eval.report.headline import headline
from quant.eval.report.players import players
from quant.eval.report.provenance import measured_and_estimated, networks, provenance, truncated_prompts
from quant.eval.report.score_table import score_table, worst_prompts
from quant.eval.report.speed_table import speed_table
from quant.eval.results.recorded import read

# %% tags=["parameters"]
run = "run"  # the folder of `quant eval run`

# %%
recorded = read(run)
display(styles(), headline(recorded))

# %% [markdown]
# ## Quality against size and speed
#
# Each candidate's mean over all samples; further up is closer to the original. Speed is a GPU's, measured or estimated
# as the plot says: seconds of a CPU's reference arithmetic are no kernel's, and stand under speed and memory.

# %%
display(side_by_side(*leading_plots(recorded)))

# %% [markdown]
# ## All metrics
#
# Comparisons of pairs come first: the same prompt, seed and initial latents through the original and a candidate.

# %%
display(score_table(recorded))

# %% [markdown]
# ## Candidate against candidate
#
# What is hard for both cancels in a pair of the same prompt and noise, so two may differ whose intervals above overlap.

# %%
display(candidate_table(recorded))

# %% [markdown]
# ## Side by side
#
# The samples at which the worst candidate is worst, in the middle, and best, by PSNR.

# %%
display(players(recorded))

# %% [markdown]
# ## Prompts that suffered most
#
# The lowest PSNR first, each of the candidate that is worst at it.

# %%
display(worst_prompts(recorded))

# %% [markdown]
# ## Denoising steps
#
# How far the latents have moved from the original's. Errors that rise early change what is shown, late ones its grain.

# %%
display(step_errors(recorded))

# %% [markdown]
# ## Layers
#
# What happens to the prediction when one layer alone is quantized, where it was recorded.

# %%
display(heat_maps(recorded))

# %% [markdown]
# ## Speed and memory
#
# Columns say of each time what it is.

# %%
display(speed_table(recorded))

# %% [markdown]
# ## What was measured and what was estimated

# %%
display(measured_and_estimated(recorded))

# %% [markdown]
# ## Metric networks
#
# Figures compare only where all of these are the same.

# %%
display(networks(recorded), truncated_prompts(recorded))

# %% [markdown]
# ## How it was made

# %%
display(provenance(recorded))
