"""Train without Kedro: a parquet file of features in, a verified checkpoint out.

Run it as `python docs/example_training.py FEATURES.parquet OUTPUT_DIR [EPOCHS]`. The features are those that
`kedro run --pipelines ingest,features` writes (a versioned folder is taken as well).
"""

import logging
import sys

import torch

from nqcast.data import NQDataModule
from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import CombinedQuantileLoss, TrainConfig, create_trainer

logging.basicConfig(level=logging.INFO, format="%(message)s")
features_path, output_dir = sys.argv[1], sys.argv[2]
epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 5

data = NQDataModule(features_path, batch_size=128)
data.setup()  # splits by session, fits the volatility scale on the training anchors
torch.manual_seed(0)
model = MIGT_TVDT(ModelConfig(size="test"))
print(model.summary())

config = TrainConfig(epochs=epochs, learning_rate=1e-3, warmup_steps=20, accumulation=1)
trainer = create_trainer(model, config, data, output_dir)
history = trainer.train()
print(f"val_loss {history[0]['val_loss']:.5f} before, {min(h['val_loss'] for h in history):.5f} at best")

trainer.load_checkpoint(trainer.output_dir / "checkpoint_best")
batch = next(iter(data.test_loader))
model.eval()
with torch.no_grad():
    q_hat = model(batch["features"], None, batch["temporal_info"], batch["scale"])["quantiles"]
metrics = CombinedQuantileLoss(config.quantiles).get_metrics(q_hat, batch["targets"])
print(f"first test batch: loss {metrics['loss']:.3e}, 80 % interval holds {100 * metrics['picp_80']:.1f} %")
