"""Search strategies behind one small interface: `Strategy`, and one file for each."""

from lpzero_hf.search.strategies.base import Iteration as Iteration
from lpzero_hf.search.strategies.base import Strategy as Strategy
from lpzero_hf.search.strategies.evolution import Evolution as Evolution
from lpzero_hf.search.strategies.exhaustive import Exhaustive as Exhaustive
from lpzero_hf.search.strategies.random_search import RandomSearch as RandomSearch
