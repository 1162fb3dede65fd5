"""Proxies in the log of a training: scores at the start and every 5 steps, beside the loss.

    pip install 'lpzero-hf' accelerate && python examples/trainer_proxies.py

With `report_to="tensorboard"` they are curves in TensorBoard, as all that the trainer logs.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from lpzero_hf import ProxyCallback, minibatch

model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=4096, n_positions=64))
rows = minibatch(model, batch_size=128, seq_len=32)["input_ids"]
data = [{"input_ids": row, "labels": row} for row in rows]

arguments = TrainingArguments(
    "trained", max_steps=20, logging_steps=5, per_device_train_batch_size=8, report_to="none",
    save_strategy="no", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
)  # fmt: skip
trainer = Trainer(model, arguments, train_dataset=data)
trainer.add_callback(ProxyCallback(trainer, ["snip", "grad_norm", "synflow"], every=5))
trainer.remove_callback(PrinterCallback)
trainer.train()
for entry in trainer.state.log_history:
    shown = {name: value for name, value in entry.items() if name == "loss" or name.startswith("proxy/")}
    if shown:
        print(f"step {entry['step']:2}: " + ", ".join(f"{name} {float(value):.4g}" for name, value in shown.items()))
