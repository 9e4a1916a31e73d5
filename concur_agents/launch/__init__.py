"""The server for a load of agents: its flags with their reasons, how many agents fit, and what will hurt."""

from concur_agents.launch.capacity import Capacity
from concur_agents.launch.flag import Flag
from concur_agents.launch.profile import LaunchProfile
from concur_agents.launch.render import FORMATS, render
from concur_agents.launch.sglang import SglangProfile
from concur_agents.launch.tensorrt_llm import TensorRtLlmProfile
from concur_agents.launch.vllm import VllmProfile

__all__ = [
    "FORMATS",
    "Capacity",
    "Flag",
    "LaunchProfile",
    "SglangProfile",
    "TensorRtLlmProfile",
    "VllmProfile",
    "render",
]
