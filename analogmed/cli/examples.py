"""Examples of the commands, at most 80 characters a line; ``--help`` shows the first three."""

_DEMO = """\
examples:
  analogmed demo
      ReRAM and PCM chips, 20 synthetic patients; page: runs/demo/report.html
  analogmed demo --presets hermes reram --chips 10
      other kinds of chip, with more chip instances

Rerun the same command to resume an interrupted run.
"""

_EVAL = """\
examples:
  analogmed eval
      the shipped U-Net, U-Net++ and Swin-UNETR on the generated brain phantom
  analogmed eval --hardware hermes --sweep.chips 10
      the same networks on another chip, with more chip instances
  analogmed eval runs/lgg/digital runs/lgg --task lgg --task.root data/lgg
      your networks on real data
  analogmed eval --wide
      all estimates with their intervals, and the costs
  analogmed eval --config runs/eval/experiment.yaml --out runs/again
      a repetition of an earlier run
  analogmed eval --sweep.chips 100 --sweep.width 0.1 \\
      --engine.workers 4
      up to 100 chips in four processes, until the 95 % confidence interval of
      the Dice after one day is narrower than 0.1

Rerun the same command to resume an interrupted run.
See docs/tutorials/your-network.md for networks and data sets of your own.
"""

_SENSITIVITY_LAYERS = """\
examples:
  analogmed sensitivity
      the shipped U-Net: each layer analog alone and digital alone, and each
      noise source
  analogmed sensitivity unet.safetensors --parts layers \\
      --layers 'decoder*' head --sweep.times_s t0 "1 month" --sweep.chips 10
      some layers of your network, at t0 and after one month

Run 'analogmed sensitivity placement --help' for the choice of digital
layers. See docs/how-to/sensitivity.md for methods and definitions.
"""

_SENSITIVITY_PLACEMENT = """\
examples:
  analogmed sensitivity placement --loss 0.01 --digital_gmac_per_s 20
      least latency with a drop of at most 0.01, for a digital processor of
      20e9 multiply-accumulate operations per second
  analogmed sensitivity placement --sensitivity runs/sensitivity \\
      --profile my-chip.yaml --objective energy --whole_curve
      least energy, with layers ranked by an earlier run of sensitivity, and the
      whole Pareto curve
  analogmed eval unet.safetensors \\
      --digital_layers runs/placement/placement.yaml
      evaluation of the chosen placement

Layers become digital one after the other, first those that regain most per
added cost. Each step is evaluated on chips. See docs/how-to/sensitivity.md.
"""

_UNCERTAINTY_MEASURE = """\
examples:
  analogmed uncertainty
      the shipped networks on the generated brain phantom: 5 chips, 4 reads, at
      t0, after one day and after one month
  analogmed uncertainty unet-digital.safetensors unet-hwa.safetensors \\
      --dropout 0.1 --conformal_cases leave_one_out
      two trainings of your network, and dropout for digital Monte Carlo passes
  analogmed uncertainty a.safetensors b.safetensors c.safetensors
      an ensemble: networks of one model and training, for instance of several
      seeds

Run 'analogmed uncertainty mitigation --help' for corrections after
programming. See docs/how-to/uncertainty.md for methods and definitions.
"""

_UNCERTAINTY_MITIGATION = """\
examples:
  analogmed uncertainty mitigation unet.safetensors
      each correction of a chip alone, and all together, at t0, after one day
      and after one month
  analogmed uncertainty mitigation --options batchnorm --images 128 \\
      --sweep.chips 10
      one correction, with more images and chips

See docs/how-to/uncertainty.md for the corrections and their cost.
"""

_PRESETS = """\
examples:
  analogmed presets
      all presets in one line each
  analogmed presets pcm
      each argument of the preset pcm, with its meaning and unit
  analogmed presets hermes --differences
      the arguments in which the preset hermes differs from pcm

Options such as --hardware.out_noise 0.02 of eval and train replace single
arguments of a preset.
"""

_REPORT = """\
examples:
  analogmed report runs/eval
      report.html, report.md and report.tex of an evaluation, in its run folder
  analogmed report runs/eval runs/uncertainty runs/sensitivity \\
      --out runs/page
      several runs on one page

The page contains its figures and needs no Internet access.
"""

_TRAIN = """\
examples:
  analogmed train --model unet --model.options.features 8
      a small U-Net on the generated brain phantom, into
      runs/train/phantom_brain-unet-digital/
  analogmed train --training hwa \\
      --init runs/train/phantom_brain-unet-digital
      hardware-aware training of this network
  analogmed train --training hwa --task lgg --task.root data/lgg \\
      --out runs/lgg
      both stages on real data: digital training into runs/lgg/digital, then
      hardware-aware training
  torchrun --nproc-per-node 2 -m analogmed.train --device cuda --batch_size 16
      two GPUs, which share each batch

Rerun the same command to resume an interrupted run.
See docs/how-to/training.md.
"""

_SEARCH_RUN = """\
examples:
  analogmed search
      16 networks on the generated brain phantom: Dice after one day on a chip,
      and number of tiles
  analogmed search --engine.workers 2 --budget 40 \\
      --strategy evolution
      40 networks, two at a time, by regularised evolution; a larger budget
      extends a finished search
  analogmed search --objectives dice_1d \\
      --constraints "tiles <= 20" "avm_drop <= 0.02"
      the highest Dice within bounds
  analogmed search --space.depths 2 3 --space.blocks C E G \\
      --space.widths 8 16 32
      another search space; with --space.places analog digital, each block may
      be digital
  analogmed search --digital_layers head levels.0.down
      networks whose head and first block are digital
  analogmed search --task lgg --task.root data/lgg \\
      --candidate.epochs 40 --out runs/lgg
      real data
  analogmed search --storage postgresql://user@host/searches \\
      --study lgg
      one study and one budget, shared by all machines that run this command

Rerun the same command to resume a stopped search, or run it in a second process
to share the work. At the end, the command that evaluates the best network on
the test patients is printed; the search itself never reads them.

Run 'analogmed search supernet --help' for the training of shared
weights, and 'analogmed search importance --help' for the importance
of blocks. See docs/how-to/search.md for spaces, strategies and output files.
"""

_SEARCH_SUPERNET = """\
examples:
  analogmed search supernet --space.depths 1 2 3 --epochs 20
      a supernetwork of the generated brain phantom, one random network per step
      (SPOS), into runs/supernet/phantom_brain-spos/
  analogmed search supernet --rule fairnas
      each operation of each level once per step
  analogmed search supernet --rule sandwich
      the largest, the smallest and two other networks per step; the largest
      network teaches the others
  analogmed search supernet --config configs/supernet-mias-brain.yaml
      the MIAS loss with 10 networks per step and pruning
  analogmed search supernet --rule gumbel --paths 4 --loss.latency 0.3
      operations sampled by weights that are learned from loss and latency
  analogmed search supernet --trace 50 --trace_every 2
      the scores of 50 networks during the training, in trace.csv
  torchrun --nproc-per-node 2 -m analogmed.search supernet --device cuda \\
      --batch_size 16
      two GPUs, which share each batch

Rerun the same command to resume an interrupted run. See
docs/explanation/shared-weights.md for sampling rules, the loss and pruning.
"""

_SEARCH_IMPORTANCE = """\
examples:
  analogmed search importance \\
      --supernets runs/supernet/phantom_brain-spos
      importance.csv and figures/importance.png in runs/importance/
  analogmed search importance --supernets runs/brain runs/nuclei \\
      --n 64 --out runs/both
      two tasks, with averages over more networks

See docs/explanation/shared-weights.md for the definition of the score.
"""

_HARDWARE_MAP = """\
examples:
  analogmed hardware --model unet --input 3 256 256
      the U-Net of the LGG benchmark on HERMES tiles
  analogmed hardware runs/lgg/digital runs/lgg
      trained networks, on one image of their window
  analogmed hardware --out runs/cost \\
      --model unet unetpp "swin_unetr(feature_size=24)"
      three networks, with tables and figures in a folder
  analogmed hardware --model swin_unetr --input 4 96 96 96 \\
      --out_channels 3
      a 3D network on one volume
  analogmed hardware --tile_budget 223 --slices 155 \\
      --transposed digital
      slow layers replicated up to 223 tiles, for a stack of 155 slices
  analogmed hardware --model "unet(features=8)" --packing first_fit
      several small layers on one tile
  analogmed hardware --profile none --tile_size 512
      tiles of any size, without time and energy
  analogmed hardware --profile my-chip.yaml
      a tile type of your own
  analogmed hardware --model "unet(features=12)" --input 1 64 64 \\
      --table runs/measure
      latency on the machine of a table that 'hardware measure' has written

See docs/how-to/cost.md for definitions and sources.
"""

_HARDWARE_MEASURE = """\
examples:
  analogmed hardware measure --out runs/measure
      a table of this machine, one thread, tested on six small networks; takes
      about one minute
  analogmed hardware measure --model unet unetpp --input 3 256 256 \\
      --threads 4
      other networks, larger inputs, four threads
  analogmed hardware --model "unet(features=8)" --input 1 64 64 \\
      --table runs/measure
      latency of another network on the machine of the table

No table is shipped, because a table is valid only for the machine that it was
measured on. See docs/how-to/cost.md.
"""

_MODELS_IMPORT = """\
examples:
  analogmed models import theirs.pt --config mine.yaml \\
      --model my_nets:unet --out mine.safetensors
      a state dict, and the function that builds its network
  analogmed models import theirs.safetensors --config mine.yaml \\
      --model "swin unetr" --model.options.feature_size 24 \\
      --patients p01 p02 p03 --expected_score 0.86 --out mine.safetensors
      a network of analogmed train, and the patients of its training
  analogmed models import bundles/spleen --config mine.yaml --patients \\
      --out spleen.safetensors
      a MONAI bundle, trained on none of these patients

At the end, the command that evaluates the network is printed.
See docs/tutorials/your-network.md.
"""

_MODELS_EXPORT = """\
examples:
  analogmed models export runs/mine-hwa --out mine-hwa.safetensors
      state dict of the digital network, with its own names
  analogmed models export mine.safetensors --factories my_nets:unet \\
      --out mine.pt
      the same for torch.load(..., weights_only=True)
  analogmed models export runs/mine-hwa --out mine-hwa.pt2
      the network itself, for torch.export.load

See docs/tutorials/your-network.md.
"""

_DATA_VERIFY = """\
examples:
  analogmed data verify data/kaggle_3m
  analogmed data verify data/Task09_Spleen
  analogmed data verify --config mine.yaml
      the folder and the file patterns of the task of eval or train

Exit status: 0 without problems, 1 with problems, 2 for an invalid option.
"""

_DATA_PHANTOM = """\
examples:
  analogmed data phantom brain data/
      brain slices with gliomas, in the layout of the LGG data set
  analogmed data phantom spleen data/ --seed 1 --patients 4
      four abdominal volumes, in the layout of the Decathlon
  analogmed data phantom chest data/
      chest X-rays with findings, in the layout of ChestX-ray14
  analogmed data phantom ecg data/
      12 leads with annotated heartbeats, in the layout of MIT-BIH
"""

_DATA_DOWNLOAD = """\
examples:
  analogmed data download Task04_Hippocampus data/
  analogmed data download Task09_Spleen data/
      1.6 GB
"""

EXAMPLES = {
    "demo": _DEMO,
    "eval": _EVAL,
    "sensitivity layers": _SENSITIVITY_LAYERS,
    "sensitivity placement": _SENSITIVITY_PLACEMENT,
    "uncertainty measure": _UNCERTAINTY_MEASURE,
    "uncertainty mitigation": _UNCERTAINTY_MITIGATION,
    "report": _REPORT,
    "train": _TRAIN,
    "search run": _SEARCH_RUN,
    "search supernet": _SEARCH_SUPERNET,
    "search importance": _SEARCH_IMPORTANCE,
    "presets": _PRESETS,
    "hardware map": _HARDWARE_MAP,
    "hardware measure": _HARDWARE_MEASURE,
    "models import": _MODELS_IMPORT,
    "models export": _MODELS_EXPORT,
    "data verify": _DATA_VERIFY,
    "data phantom": _DATA_PHANTOM,
    "data download": _DATA_DOWNLOAD,
}
"""Examples by command, see :data:`analogmed.cli.commands.COMMANDS`."""
