"""Options of the demo recipe; the defaults are the recipe of the shipped checkpoint."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

Stage = Literal["joint", "msd"]


class DemoRecipe(BaseModel):
    """What `train_demo` does: sizes, data mix, and the two stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    threads: PositiveInt = 2

    layers: PositiveInt = 4
    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    ffn: PositiveInt = 128

    batch_size: PositiveInt = 256
    question_share: float = Field(0.25, ge=0, lt=1, description="share of a batch's rows")
    joint_steps: PositiveInt = Field(4000, description="steps of joint cross-entropy")
    msd_steps: int = Field(400, ge=0, description="steps of self-distillation after them")
    warmup_steps: PositiveInt = 200
    matrix_lr: float = Field(0.02, gt=0, description="Muon, for the layers' matrices")
    vector_lr: float = Field(2e-3, gt=0, description="AdamW, for everything else")
    msd_lr_scale: float = Field(0.1, gt=0, description="stage 2 starts at this share of the rates")
    weight_decay: NonNegativeFloat = 0.02
    exit_weight_power: NonNegativeFloat = Field(
        0.5, description="exit k's loss weighs k to this power: 0 is alike for all"
    )

    cell_loss_weight: NonNegativeFloat = Field(1.0, description="auxiliary losses at the start")
    cell_loss_layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (1, 1, 2, 3), description="layers whose image tokens learn kind, role, place, witness"
    )
    cell_loss_share: float = Field(0.7, gt=0, le=1, description="of stage 1, until they are 0")

    lambda_joint: NonNegativeFloat = 1.0
    lambda_text: NonNegativeFloat = 0.1
    lambda_image: NonNegativeFloat = 0.1
    tau: float = Field(2.0, gt=0)

    max_accuracy_loss: float = Field(
        0.003, ge=0, lt=1, description="thresholds may cost this much on the calibration split"
    )
    save_every_steps: PositiveInt = 250

    def half_depth(self) -> "DemoRecipe":
        """Return the recipe of half the layers with equal compute: twice the steps."""
        return self.model_copy(
            update={
                "layers": max(1, self.layers // 2),
                "cell_loss_layers": tuple((layer + 1) // 2 for layer in self.cell_loss_layers),
                "joint_steps": 2 * self.joint_steps,
                "msd_steps": 2 * self.msd_steps,
            }
        )
