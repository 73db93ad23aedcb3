"""Makes the tiny models and data files of the arithmetic world, and measures them.

Tokenizer -> three models -> problems -> the policy's solutions to held-out problems, labelled by the oracle (a benchmark in
ProcessBench form) -> scores -> cards. Everything derives from one seed.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from actors.code_executor import CodeExecutor, ExecutorConfig
from actors.engine import Sampling, VllmEngineConfig, open_engine
from actors.grading.grader import Grader, GradingConfig
from actors.policy import Policy, PolicyConfig
from actors.rationalizer import Rationalizer, RationalizerConfig
from actors.training.pretrainer import PretrainRecipe, WeightedText, pretrain, save
from actors.verifier import Verifier, VerifierConfig
from genprm.consensus import majority_index
from genprm.errors import UserError
from genprm.processbench import score
from genprm.records import BenchmarkSolution, Outcome, Problem
from genprm.toy import corpora, oracle
from genprm.toy.corpora import Dialogue
from genprm.toy.tokenizer import CHAT_TEMPLATE, END_OF_TURN, PADDING, START_OF_TURN, train_tokenizer
from genprm.toy.world import Split, ToyProblem, draw_problem
from workflows.demo.sections import ToyModelsConfig, ToyRole

STREAMS: dict[ToyRole, Callable[[int], Iterator[Dialogue]]] = {
    "policy": corpora.policy_stream,
    "rationale": corpora.rationale_stream,
    "base": corpora.base_stream,
}
BATCH_TOKENS = 8192
PURPOSES: dict[ToyRole, str] = {
    "policy": "writes solutions (with slips on purpose), completes partial ones, and rewrites one when given a critique",
    "rationale": "judges a whole solution paragraph by paragraph with code, as the rationale model of stage 4",
    "base": "what GenPRM is trained from: knows the wire format and mostly says Yes, even where the code said False",
}
NUM_SYNTHESIS, NUM_HELDOUT, NUM_BENCHMARK = 2000, 500, 200
LAPTOP_SYNTHESIS, LAPTOP_HELDOUT, LAPTOP_BENCHMARK = 82, 24, 40
"""How many of the first rows of each file make the laptop preset's, in ``data/laptop``."""
SCORED_PROBLEMS, SCORED_SAMPLES = 200, 8


def engine_config(model: Path) -> VllmEngineConfig:
    return VllmEngineConfig(model=str(model), dtype="float32", max_model_len=2048, kv_cache_gib=0.5, enforce_eager=True, num_gpus=0)


def weighted_text(dialogue: Dialogue) -> WeightedText:
    """A dialogue as the chat template shows it, with the loss weight of every character."""
    text: list[str] = []
    weights: list[float] = []
    for role, spans in dialogue.turns:
        own = role == "assistant"
        ends = 1.0 if own and spans[-1].weight > 0 else 0.0
        pieces = [(f"{START_OF_TURN}{role}\n", 0.0)]
        pieces += [(span.text, span.weight if own else 0.0) for span in spans]
        pieces += [(END_OF_TURN, ends), ("\n", 0.0)]
        for piece, weight in pieces:
            text.append(piece)
            weights += [weight] * len(piece)
    return WeightedText(text="".join(text), weights=weights)


def make_tokenizer(seed: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    texts = [weighted_text(dialogue).text for stream in STREAMS.values() for dialogue in islice(stream(seed + 98), 1500)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(texts), eos_token=END_OF_TURN, pad_token=PADDING)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(role: ToyRole, tokenizer: Any, folder: Path, seed: int, num_steps: int) -> float:
    """Train one model and save it; returns the minutes it took."""
    began = time.monotonic()

    def report(step: int, loss: float, tokens_per_s: float) -> None:
        print(f"{role}: step {step}/{num_steps}, loss {loss:.4f}, {tokens_per_s:,.0f} tokens/s", flush=True)

    texts = (weighted_text(dialogue) for dialogue in STREAMS[role](seed))
    recipe = PretrainRecipe(num_steps=num_steps, batch_tokens=BATCH_TOKENS, seed=seed)
    save(pretrain(texts, tokenizer, recipe, report), tokenizer, folder)
    return (time.monotonic() - began) / 60


def draw_problems(split: Split, number: int, seed: int) -> list[ToyProblem]:
    """Distinct problems of a split."""
    rng = random.Random(f"problems:{split}:{seed}")
    found: dict[str, ToyProblem] = {}
    while len(found) < number:
        problem = draw_problem(rng, split)
        found.setdefault(problem.text, problem)
    return list(found.values())


def write_problems(split: Split, number: int, seed: int, file: Path) -> None:
    """A JSONL of problems; level is the number of operations."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        for index, problem in enumerate(draw_problems(split, number, seed)):
            row = {
                "unique_id": f"{split}-{index}",
                "problem": problem.text,
                "answer": str(problem.answer),
                "level": str(len(problem.operations)),
            }
            stream.write(json.dumps(row) + "\n")


def write_benchmark(rows: Sequence[dict[str, Any]], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1) + "\n")


def make(config: ToyModelsConfig, output: Path) -> None:
    """Make or measure the models; ``output`` gets ``models/`` and ``data/``."""
    models, data, seed = output / "models", output / "data", config.seed
    minutes: dict[ToyRole, float] = {}
    if config.train:
        tokenizer = make_tokenizer(seed)
        for role in config.models:
            minutes[role] = make_model(role, tokenizer, models / role, seed, getattr(config.steps, role))
        write_problems("synthesis", NUM_SYNTHESIS, seed, data / "synthesis.jsonl")
        write_problems("heldout", NUM_HELDOUT, seed, data / "heldout.jsonl")
        write_problems("synthesis", LAPTOP_SYNTHESIS, seed, data / "laptop" / "synthesis.jsonl")
        write_problems("heldout", LAPTOP_HELDOUT, seed, data / "laptop" / "heldout.jsonl")
    for role in config.models:
        if not (models / role / "config.json").is_file():
            raise UserError(f"--run-dir = {str(output)!r}: no {role} model in its models/, make it with --set train=true")
    benchmark_file = data / "processbench.json"
    if (config.train and "policy" in config.models) or not benchmark_file.is_file():
        asyncio.run(make_benchmark(models, benchmark_file, seed))
    benchmark = read_benchmark_file(benchmark_file)
    for role in config.models:
        if role == "policy":
            scores = asyncio.run(score_policy(models, seed))
        elif role == "rationale":
            scores = asyncio.run(score_rationale(models, benchmark, seed))
        else:
            scores = asyncio.run(score_base(models, benchmark, seed))
        if config.train:
            write_card(role, models / role, config, scores, minutes[role])
        print(role, ", ".join(f"{name}: {value:.1f}" for name, value in scores.items()), flush=True)


async def make_benchmark(models: Path, file: Path, seed: int) -> None:
    """The policy's own solutions to held-out problems with the oracle's labels: half with an error, half without."""
    grader = Grader(GradingConfig())
    engine = open_engine(engine_config(models / "policy"))
    policy = Policy(engine=engine, grader=grader, config=TOY_POLICY, run_seed=seed)
    problems = draw_problems("heldout", NUM_HELDOUT + 400, seed)[NUM_HELDOUT:]
    samples = await asyncio.gather(*(policy.sample(_problem(toy, index), n=4, purpose="benchmark") for index, toy in enumerate(problems)))
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for index, (toy, solutions) in enumerate(zip(problems, samples, strict=True)):
        for erroneous in (True, False):
            for sample in solutions:
                label = oracle.first_error(toy, sample.steps)
                if len(sample.steps) >= 2 and (label >= 0) is erroneous:
                    row = {"id": f"toy-{index}-{label}", "problem": toy.text, "steps": list(sample.steps), "label": label}
                    row["final_answer_correct"] = sample.grade.outcome is Outcome.CORRECT
                    rows[erroneous].append(row)
                    break
    half = NUM_BENCHMARK // 2
    if min(len(kind) for kind in rows.values()) < half:
        raise RuntimeError(f"the policy made {len(rows[True])} erroneous and {len(rows[False])} correct solutions, {half} wanted")
    mixed = [row for pair in zip(rows[True][:half], rows[False][:half], strict=True) for row in pair]
    write_benchmark(mixed, file)
    write_benchmark(mixed[:LAPTOP_BENCHMARK], file.parent / "laptop" / file.name)
    engine.close()
    grader.close()


TOY_POLICY = PolicyConfig(prompt="{problem}", critic_prompt=corpora.CRITIC_TEMPLATE, sampling=Sampling(temperature=0.7, max_tokens=200))


def _problem(toy: ToyProblem, index: int) -> Problem:
    return Problem(id=f"heldout-{index}", text=toy.text, answer=str(toy.answer), level=None)


async def score_policy(models: Path, seed: int) -> dict[str, float]:
    grader = Grader(GradingConfig())
    engine = open_engine(engine_config(models / "policy"))
    policy = Policy(engine=engine, grader=grader, config=TOY_POLICY, run_seed=seed)
    problems = draw_problems("heldout", SCORED_PROBLEMS, seed)
    samples = await asyncio.gather(
        *(policy.sample(_problem(toy, index), n=SCORED_SAMPLES, purpose="score") for index, toy in enumerate(problems))
    )
    outcomes = [sample.grade.outcome for solutions in samples for sample in solutions]
    engine.close()
    grader.close()
    return {"right at temperature 0.7, %": 100.0 * outcomes.count(Outcome.CORRECT) / len(outcomes)}


def read_benchmark_file(file: Path) -> list[BenchmarkSolution]:
    return [
        BenchmarkSolution(id=row["id"], problem=row["problem"], steps=tuple(row["steps"]), label=row["label"])
        for row in json.loads(file.read_text())
    ]


async def score_rationale(models: Path, benchmark: Sequence[BenchmarkSolution], seed: int) -> dict[str, float]:
    executor = CodeExecutor(ExecutorConfig())
    engine = open_engine(engine_config(models / "rationale"))
    config = RationalizerConfig(instructions=corpora.RATIONALE_INSTRUCTIONS)
    judge = Rationalizer(engine=engine, runner=executor, config=config, run_seed=seed)
    results = await asyncio.gather(*(judge.judge(row.id, row.problem, row.steps) for row in benchmark))
    engine.close()
    await executor.shutdown()
    return _f1([majority_index(votes) for _, _, votes in results], benchmark)


async def score_base(models: Path, benchmark: Sequence[BenchmarkSolution], seed: int) -> dict[str, float]:
    executor = CodeExecutor(ExecutorConfig())
    engine = open_engine(engine_config(models / "base"))
    verifier = Verifier(engine=engine, runner=executor, config=VerifierConfig(), run_seed=seed)
    judged = await asyncio.gather(*(verifier.judge(row, stop_at_first_error=True) for row in benchmark))
    engine.close()
    await executor.shutdown()
    return _f1([row.prediction for row in judged], benchmark)


def _f1(predictions: Sequence[int | None], benchmark: Sequence[BenchmarkSolution]) -> dict[str, float]:
    result = score(predictions, [row.label for row in benchmark])
    return {
        "ProcessBench F1 on held-out solutions, %": result.f1,
        "error accuracy, %": result.error_accuracy,
        "correct accuracy, %": result.correct_accuracy,
    }


def write_card(role: ToyRole, folder: Path, config: ToyModelsConfig, scores: dict[str, float], minutes: float) -> None:
    weights = (folder / "model.safetensors").stat().st_size
    shape = json.loads((folder / "config.json").read_text())
    lines = [
        f"# Tiny {role} model of the arithmetic world",
        "",
        f"It {PURPOSES[role]}.",
        "",
        f"- Architecture: Qwen2, {shape['num_hidden_layers']} layers, hidden size {shape['hidden_size']}, vocabulary "
        f"{shape['vocab_size']}, {weights / 2e6:.2f}M parameters in bfloat16.",
        f"- Made by `python -m jobs.pretrain_toy`: seed {config.seed}, {getattr(config.steps, role)} batches of about "
        f"{BATCH_TOKENS:,} tokens from `genprm.toy.corpora`, Muon and AdamW, {minutes:.0f} minutes on one CPU core.",
        "- Limits: it knows word problems of 2 to 4 operations on numbers below 100 in the world's own phrasings, nothing else.",
        "",
        "Measured by the same command:",
        "",
        *(f"- {name}: {value:.1f}" for name, value in scores.items()),
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines))
