"""Three state dicts of a small network with batch norm after each of three steps, and their mean as PyTorch gives it:
floating-point tensors averaged in float64 and rounded once, integers of the last one.  Call: python make.py"""
import torch

torch.manual_seed(7)
net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
step = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
states = []
for i in range(3):
    step.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(torch.randn(8, 5)), torch.randint(0, 3, (8,)))
    loss.backward()
    step.step()
    states.append({k: v.clone() for k, v in net.state_dict().items()})
    torch.save(states[-1], f"step{i}.pth")
mean = {k: torch.stack([s[k].double() for s in states]).mean(0).float() if v.is_floating_point() else v
        for k, v in states[-1].items()}
torch.save(mean, "mean.pth")
