"""Search strategies behind one small interface: `Strategy`, and one file for each."""

from lpzero_hf.strategies.base import Iteration as Iteration
from lpzero_hf.strategies.base import Strategy as Strategy
from lpzero_hf.strategies.evolution import Evolution as Evolution
from lpzero_hf.strategies.exhaustive import Exhaustive as Exhaustive
from lpzero_hf.strategies.random_search import RandomSearch as RandomSearch
