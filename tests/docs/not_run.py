"""Shell lines of the documentation that no test runs, by how they begin, and why."""

NOT_RUN = {
    "pip install": "installs packages",
    "make ": "installs packages",
    "npm install": "needs a network",
    "cp docs/classify.mjs": "tests/test_javascript.py runs the example",
    "node classify.mjs": "tests/test_javascript.py runs the example",
    "curl": "needs the server; tests/app/server posts the same",
    "neuromoco app": "runs until it is stopped; tests/app/page starts it",
    "neuromoco serve": "runs until it is stopped; tests/app/server starts it",
    "neuromoco download": "needs a network; tests/datasets/test_downloads.py has a server of its own",
    "neuromoco verify": "needs Lava; the tests of `make lava` run it",
    "export NEUROMOCO_DATA=": "would point the next lines at a data set that is not there",
    "neuromoco train --data n-mnist": "needs the 60,000 recordings of N-MNIST",
    "neuromoco evaluate runs/supervised/n-mnist": "needs the 10,000 test recordings of N-MNIST",
    "OMP_NUM_THREADS=1 neuromoco sweep nmnist": "trains for 70 minutes",
    "neuromoco sweep FILE.yaml --out": "trains for hours; tests/sweep runs small sweeps",
    "neuromoco train --stage pretrain --recipe cifar10-dvs-sew": "needs two data sets, and days",
    "neuromoco train --resume": "needs a run that was interrupted; tests/train kills and resumes runs",
    "torchrun": "starts processes of its own; tests/train does it with small settings",
    "accelerate launch": "starts processes of its own; tests/train does it with small settings",
    "python -m benchmarks": "measures for minutes",
}
