from .api.adapter import TransferAdapter as TransferAdapter
from .api.convert import convert_from_peft as convert_from_peft
from .api.convert import convert_to_lora as convert_to_lora
from .api.convert import convert_to_sparse_patch as convert_to_sparse_patch
from .api.convert import export_channels as export_channels
from .api.extract import extract as extract
from .artifact.card_results import EvaluationResult as EvaluationResult
from .catalogue.browse import browse as browse
from .catalogue.info import info as info
from .catalogue.rank import rank as rank
from .catalogue.record import record_verdict as record_verdict
from .combining.combine import combine as combine
from .combining.recipe import Ingredient as Ingredient
from .errors import FttError as FttError
from .evaluation.evaluate import evaluate as evaluate
from .extraction.choice import Coding as Coding
from .recycling.recycle import recycle as recycle
from .registry.deprecate import deprecate as deprecate
from .registry.evaluations import record_evaluations as record_evaluations
from .registry.pull import pull as pull
from .registry.push import publish as publish
from .registry.push import push as push
from .registry.versions import versions as versions
from .routing.router import AdapterRouter as AdapterRouter
from .transfer.apply import apply as apply
from .transfer.load import AutoTransferModel as AutoTransferModel
from .transfer.load import AutoTransferModelForCausalLM as AutoTransferModelForCausalLM
from .transfer.load import (
    AutoTransferModelForImageTextToText as AutoTransferModelForImageTextToText,
)
from .transfer.load import AutoTransferModelForSeq2SeqLM as AutoTransferModelForSeq2SeqLM
from .transfer.load import (
    AutoTransferModelForSequenceClassification as AutoTransferModelForSequenceClassification,
)
from .tuning.tune import tune as tune
from .verdict.options import TextOptions as TextOptions
from .verdict.verify import verify as verify
from .version import __version__ as __version__
